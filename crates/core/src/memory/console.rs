//! The console: a shell that reads a line, shows it, runs it, until `exit N`.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::builtins;
use super::exec::{Context, Io};
use crate::{Bytes, ExitStatus, Result};

/// Ctrl-D: end of file, where a line is empty.
const END: u8 = 4;
/// What ends a shell whose terminal goes.
const SIGHUP: u8 = 1;

/// Runs the shell until it is told to exit or its terminal goes.
pub(super) async fn run(context: &Context, mut io: Io) -> Result<ExitStatus> {
    Ok(shell(context, &mut io).await.unwrap_or(ExitStatus::Signal(SIGHUP)))
}

async fn shell(context: &Context, io: &mut Io) -> io::Result<ExitStatus> {
    // Commands get no input of their own: the shell keeps it.
    let Some(mut stdin) = io.stdin.take() else { return Ok(ExitStatus::Code(0)) };
    let mut last = 0;
    loop {
        io.stdout.write_all(b"$ ").await?;
        let mut line = Bytes::new();
        loop {
            let mut byte = [0];
            if stdin.read(&mut byte).await? == 0 || (byte == [END] && line.is_empty()) {
                return Ok(ExitStatus::Code(last));
            }
            if byte == *b"\r" || byte == *b"\n" {
                io.stdout.write_all(b"\r\n").await?;
                break;
            }
            io.stdout.write_all(&byte).await?;
            line.push(byte[0]);
        }
        let words: Vec<Bytes> = line
            .split(u8::is_ascii_whitespace)
            .filter(|w| !w.is_empty())
            .map(<[u8]>::to_vec)
            .collect();
        if words.first().is_some_and(|w| w == b"exit") {
            let code = words.get(1).and_then(|n| std::str::from_utf8(n).ok()?.parse().ok());
            return Ok(ExitStatus::Code(code.unwrap_or(last)));
        }
        last = builtins::dispatch(context, &words, io).await?.code();
    }
}
