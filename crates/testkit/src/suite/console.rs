//! Terminals: their size, what is typed into them, how they end.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use pixels_core::{ConsoleOpts, Process, Reader, TtySize, Writer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::table;
use crate::Ctx;

table! { "console":
    size_resize_and_exit_code [],
    a_command_in_place_of_the_shell [],
    the_end_of_input_ends_it [Linux],
    a_kill_ends_it [],
}

/// Longer than a login shell takes to start.
const SOON: Duration = Duration::from_secs(60);

/// Somebody at the terminal.
struct Person {
    screen: Vec<u8>,
    stdin: Writer,
    stdout: Reader,
}

impl Person {
    fn at(process: &mut Process) -> Result<Self> {
        Ok(Self {
            screen: Vec::new(),
            stdin: process.stdin.take().context("no stdin")?,
            stdout: process.stdout.take().context("no stdout")?,
        })
    }

    async fn types(&mut self, text: &str) -> Result<()> {
        self.stdin.write_all(text.as_bytes()).await?;
        self.stdin.flush().await?;
        Ok(())
    }

    /// Reads until the screen shows two numbers on a line of their own; forgets it then.
    async fn sees_size(&mut self) -> Result<(u16, u16)> {
        tokio::time::timeout(SOON, async {
            loop {
                let text = String::from_utf8_lossy(&self.screen);
                // The last line may still be on its way.
                let whole = text.rfind('\n').map_or("", |at| &text[..at]);
                if let Some(size) = whole.lines().rev().find_map(size_of) {
                    self.screen.clear();
                    return Ok(size);
                }
                if self.stdout.read_buf(&mut self.screen).await? == 0 {
                    bail!("it ended with {:?}", String::from_utf8_lossy(&self.screen));
                }
            }
        })
        .await
        .with_context(|| format!("on screen: {:?}", String::from_utf8_lossy(&self.screen)))?
    }

    async fn sees_the_end(&mut self) -> Result<()> {
        tokio::time::timeout(SOON, self.stdout.read_to_end(&mut self.screen))
            .await
            .context("the terminal stays open")??;
        Ok(())
    }
}

/// `rows cols`, as `stty size` prints it.
fn size_of(line: &str) -> Option<(u16, u16)> {
    // A shell may colour its line or turn bracketed paste off before the output.
    let line = line.trim().rsplit('\r').next()?;
    let (rows, cols) = line.split_once(' ')?;
    Some((rows.parse().ok()?, cols.parse().ok()?))
}

async fn size_resize_and_exit_code(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    let size = Some(TtySize { cols: 101, rows: 37 });
    let opts = ConsoleOpts { size, ..ConsoleOpts::default() };
    let mut process = cx.sandbox().console(&pixel, opts).await?;
    ensure!(process.stderr.is_none(), "a terminal has one output");
    let mut person = Person::at(&mut process)?;
    person.types("stty size\r").await?;
    ensure!(person.sees_size().await? == (37, 101), "the size did not arrive");
    process.control().resize(TtySize { cols: 133, rows: 50 }).await?;
    // Nothing orders the resize before what is typed: each answer is one more look.
    let mut seen = (37, 101);
    for _ in 0..100 {
        person.types("stty size\r").await?;
        seen = person.sees_size().await?;
        if seen == (50, 133) {
            break;
        }
    }
    ensure!(seen == (50, 133), "the new size did not arrive: {seen:?}");
    person.types("exit 7\r").await?;
    let (end, status) =
        tokio::join!(person.sees_the_end(), tokio::time::timeout(SOON, process.exit()));
    end?;
    ensure!(status??.code() == 7, "the shell's exit code");
    Ok(())
}

async fn a_command_in_place_of_the_shell(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    for (script, code) in [("exit 0", 0), ("exit 9", 9), ("kill -15 $$", 143)] {
        let remote_cmd = Some(["sh", "-c", script].map(Into::into).to_vec());
        let opts = ConsoleOpts { remote_cmd, ..ConsoleOpts::default() };
        let process = cx.sandbox().console(&pixel, opts).await?;
        let out = tokio::time::timeout(SOON, crate::ctx::collect(process, b"")).await??;
        ensure!(out.code == code, "{script}: {out:?}");
    }
    Ok(())
}

async fn the_end_of_input_ends_it(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    let mut process = cx.sandbox().console(&pixel, ConsoleOpts::default()).await?;
    let mut person = Person::at(&mut process)?;
    // A shell that edits lines would miss a Ctrl-D that comes before its prompt.
    person.types("stty size; exec cat\r").await?;
    person.sees_size().await?;
    // Ctrl-D on an empty line.
    person.types("\x04").await?;
    let (end, status) =
        tokio::join!(person.sees_the_end(), tokio::time::timeout(SOON, process.exit()));
    end?;
    ensure!(status??.code() == 0, "the end of input is no failure");
    Ok(())
}

async fn a_kill_ends_it(cx: Ctx) -> Result<()> {
    let pixel = cx.shared().await?;
    let mut process = cx.sandbox().console(&pixel, ConsoleOpts::default()).await?;
    let mut person = Person::at(&mut process)?;
    person.types("stty size\r").await?;
    person.sees_size().await?;
    process.control().kill().await?;
    let (end, status) =
        tokio::join!(person.sees_the_end(), tokio::time::timeout(SOON, process.exit()));
    end?;
    ensure!(status??.code() == 137, "killed");
    Ok(())
}
