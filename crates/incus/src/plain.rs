//! Running commands without the guest binary: where the pixel cannot execute
//! it. What is lost: bytes that are not UTF-8, odd variable names, the login
//! shell, and the killing of a command's whole tree.

use std::sync::Arc;

use pixels_core::{Error, ExecOpts, FileKind, FileSession, Files, Name, Process, Result, text};
use serde_json::{Map, json};
use tokio::io::AsyncReadExt;
use tokio::sync::{Mutex, oneshot};

use crate::Incus;
use crate::exec::{self, Channel};
use crate::streams;

/// How much of the guest's user table is read, in bytes.
const PASSWD: u64 = 1 << 20;

/// Starts a command as the API can. `why` is why the guest binary cannot.
pub(crate) async fn start(
    incus: &Incus,
    name: &Name,
    opts: ExecOpts,
    why: &str,
) -> Result<Process> {
    let mut command = opts.cmd.iter().map(|a| utf8(a, "argument")).collect::<Result<Vec<_>>>()?;
    if opts.timeout.is_some() {
        return Err(Error::unsupported(crate::KIND, format!("a timeout in {name}: its guest helper cannot run"))
            .with_hint("leave --timeout out, or supply a helper for the pixel's architecture with PIXELS_INCUS_GUEST_BINARY"));
    }
    let files = incus.files(name).await?;
    let user = match opts.root {
        true => User::root(),
        false => find_user(files.as_ref(), &incus.config.user).await.unwrap_or_else(User::root),
    };
    let cwd = match &opts.cwd {
        Some(cwd) => {
            let text = utf8(cwd, "cwd")?;
            let stat = files.stat(cwd, true).await?;
            if stat.kind != FileKind::Dir {
                return Err(Error::invalid("cwd", text, "it is not a directory"));
            }
            text
        }
        None => match files.stat(user.home.as_bytes(), true).await {
            Ok(stat) if stat.kind == FileKind::Dir => &user.home,
            _ => "/",
        },
    };
    if command.is_empty() {
        command.push(&user.shell);
    }
    let mut env = Map::new();
    env.insert("HOME".into(), json!(user.home));
    env.insert("USER".into(), json!(user.name));
    for (key, value) in &opts.env {
        env.insert(utf8(key, "variable")?.to_owned(), json!(utf8(value, "variable")?));
    }
    let body = json!({
        "command": command, "environment": env, "user": user.uid, "group": user.gid, "cwd": cwd,
    });
    let launched = incus.launch(name, body, opts.tty).await?;
    let (sender, receiver) = launched.main.split();
    let (control, mut events) = launched.control.split();
    let (ended, until) = oneshot::channel();
    let (stdout, stderr, keep) = match launched.outputs {
        Some((out, err)) => (
            streams::output(out.receive_only()),
            Some(streams::output(err.receive_only())),
            Some(ended),
        ),
        None => (streams::output_then(receiver, ended), None, None),
    };
    let stdin = streams::input(sender, until);
    let stdin = if opts.no_stdin && opts.tty.is_none() { None } else { Some(stdin) };
    let api = incus.api.clone();
    let exit = async move {
        let _input_open = keep;
        exec::status(exec::ended(&api, &launched.operation, &mut events).await?)
    };
    let control = Arc::new(Channel(Mutex::new(control)));
    let process = Process::new(stdin, Some(stdout), stderr, control, exit);
    Ok(process.with_warning(format!(
        "the guest helper cannot run in {name} ({}): this command runs without it, so arguments have to be UTF-8, no login shell is used, and what it starts in the background is not killed with it",
        text::clean(why),
    )))
}

fn utf8<'a>(bytes: &'a [u8], what: &str) -> Result<&'a str> {
    std::str::from_utf8(bytes).map_err(|_| {
        Error::invalid(
            what,
            &text::clean_bytes(bytes),
            "without the guest helper it has to be UTF-8",
        )
    })
}

/// A line of the guest's user table.
struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
    shell: String,
}

impl User {
    fn root() -> Self {
        Self { name: "root".into(), uid: 0, gid: 0, home: "/root".into(), shell: "/bin/sh".into() }
    }
}

async fn find_user(files: &dyn FileSession, wanted: &str) -> Option<User> {
    let (_, reader) = files.open_read(b"/etc/passwd").await.ok()?;
    let mut content = Vec::new();
    reader.take(PASSWD).read_to_end(&mut content).await.ok()?;
    String::from_utf8_lossy(&content).lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, shell] = fields[..] else { return None };
        (name == wanted).then_some(())?;
        Some(User {
            name: name.into(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            home: home.into(),
            shell: if shell.is_empty() { "/bin/sh".into() } else { shell.into() },
        })
    })
}
