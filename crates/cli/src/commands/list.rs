use clap::Args;
use jiff::Timestamp;
use pixels_core::{Instance, size};
use serde::Serialize;

use super::names;
use crate::context::Context;
use crate::exit::Outcome;
use crate::ui::table::Table;
use crate::ui::time;

/// List the pixels
#[derive(Debug, Args)]
pub struct List {
    /// Show limits, origin and expiry too
    #[arg(short, long)]
    wide: bool,
}

/// A pixel as `--json` shows it.
#[derive(Serialize)]
pub struct Row<'a> {
    #[serde(flatten)]
    instance: &'a Instance,
    backend: &'a str,
}

impl<'a> Row<'a> {
    /// The row of a pixel on a backend.
    pub fn new(instance: &'a Instance, backend: &'a str) -> Self {
        Self { instance, backend }
    }
}

impl List {
    pub fn run(self, ctx: &Context) -> Outcome {
        ctx.run(async |job| {
            let pixels = job.pixels.clone();
            let backend = pixels.backend().kind();
            let all = job.operate("listing pixels", async |_| pixels.list().await).await?;
            if job.ui.json {
                let rows: Vec<_> = all.iter().map(|i| Row::new(i, backend)).collect();
                job.ui.json_out(&rows)?;
            } else {
                let shown = Shown { wide: self.wide, unroutable: names::unroutable(&pixels) };
                job.ui.out(table(&all, backend, shown, Timestamp::now()).render())?;
            }
            Ok(0)
        })
    }
}

/// How the table is to be.
#[derive(Clone, Copy)]
struct Shown {
    wide: bool,
    /// Whether running pixels without an address have one that leads nowhere.
    unroutable: bool,
}

fn table(all: &[Instance], backend: &str, shown: Shown, now: Timestamp) -> Table {
    let wide = shown.wide;
    let mut headings = vec!["NAME", "STATUS", "IP", "EGRESS", "LOCATION", "AGE"];
    if wide {
        headings.extend(["CPU", "MEMORY", "DISK", "FROM", "EXPIRES", "OWNER"]);
    }
    let mut table = Table::new(&headings);
    for instance in all {
        let addresses = if wide { instance.addresses.len() } else { 1 };
        let addresses: Vec<_> =
            instance.addresses.iter().take(addresses).map(ToString::to_string).collect();
        let nowhere = shown.unroutable && addresses.is_empty() && instance.status.is_running();
        let address = if nowhere { names::UNROUTABLE.to_owned() } else { addresses.join(",") };
        let location = match &instance.location {
            Some(member) => format!("{backend}/{member}"),
            None => backend.to_owned(),
        };
        let mut cells = vec![
            instance.name.to_string(),
            instance.status.to_string(),
            address,
            instance.meta.egress.to_string(),
            location,
            time::age_or_dash(instance.created_at, now),
        ];
        if wide {
            let limits = &instance.limits;
            cells.extend([
                limits.cpu.clone().unwrap_or_default(),
                limits.memory.map(size::human).unwrap_or_default(),
                limits.disk.map(size::human).unwrap_or_default(),
                instance.meta.origin.clone().unwrap_or_default(),
                instance.meta.expires_at.map(|t| time::until(t, now)).unwrap_or_default(),
                instance.meta.owner.clone().unwrap_or_default(),
            ]);
        }
        table.row(cells);
    }
    table
}

#[cfg(test)]
mod tests {
    use pixels_core::{Limits, Meta, Status};

    use super::*;

    fn pixel() -> Instance {
        Instance {
            name: "a".parse().unwrap(),
            status: Status::Running,
            addresses: vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            created_at: Some(Timestamp::from_second(1000).unwrap()),
            location: None,
            limits: Limits { memory: Some(1 << 30), ..Limits::default() },
            meta: Meta { origin: Some("b:x\x1b[2J".into()), ..Meta::default() },
        }
    }

    const SHOWN: Shown = Shown { wide: false, unroutable: false };

    #[test]
    fn an_address_that_leads_nowhere_is_said_to() {
        let (now, shown) = (Timestamp::now(), Shown { unroutable: true, ..SHOWN });
        let hidden = Instance { addresses: Vec::new(), ..pixel() };
        let stopped = Instance { status: Status::Stopped, ..hidden.clone() };
        let text = |pixel| table(&[pixel], "local", shown, now).render();
        assert!(text(hidden).contains("not routable"));
        assert!(!text(stopped).contains("not routable"));
        assert!(text(pixel()).contains("10.0.0.2"));
    }

    #[test]
    fn narrow_and_wide() {
        let now = Timestamp::from_second(1090).unwrap();
        let text = table(&[pixel()], "incus", SHOWN, now).render();
        assert_eq!(
            text,
            "NAME  STATUS   IP        EGRESS        LOCATION  AGE\n\
             a     running  10.0.0.2  unrestricted  incus     90s\n"
        );
        let text = table(&[pixel()], "incus", Shown { wide: true, ..SHOWN }, now).render();
        assert!(text.contains("10.0.0.2,fd00::2"), "{text}");
        assert!(text.contains("1.0 GiB"), "{text}");
        assert!(text.contains("b:x[2J"), "{text}");
    }

    #[test]
    fn json_has_the_backend() {
        let text = serde_json::to_string(&Row::new(&pixel(), "incus")).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["backend"], "incus");
        assert_eq!(value["status"], "running");
        assert_eq!(value["meta"]["egress"], "unrestricted");
    }
}
