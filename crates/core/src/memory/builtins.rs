//! The commands: the list in the module's documentation and no more.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::exec::{Context, Io, absolute, unknown};
use crate::{Bytes, ExitStatus, Result, Signal, text};

/// What a write to a pipe without a reader sends.
const SIGPIPE: u8 = 13;

/// Runs one command to its end.
pub(super) async fn run(context: &Context, cmd: &[Bytes], mut io: Io) -> Result<ExitStatus> {
    match dispatch(context, cmd, &mut io).await {
        Ok(status) => Ok(status),
        // In here a pipe fails in one way: its reader has gone.
        Err(_) => Ok(ExitStatus::Signal(SIGPIPE)),
    }
}

const OK: io::Result<ExitStatus> = Ok(ExitStatus::Code(0));

/// As [`run`], on pipes that stay with the caller.
pub(super) async fn dispatch(
    context: &Context,
    cmd: &[Bytes],
    io: &mut Io,
) -> io::Result<ExitStatus> {
    let Some((word, args)) = cmd.split_first() else { return OK };
    let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
    match (word.as_slice(), args.as_slice()) {
        (b"true", _) => OK,
        (b"false", _) => Ok(ExitStatus::Code(1)),
        (b"echo", words) => {
            let mut line = words.join(&b' ');
            line.push(b'\n');
            print(io, &line).await
        }
        (b"printf", [b"%s\\0", words @ ..]) => print(io, &each(words, b"\0")).await,
        (b"printf", [b"%s\\n", words @ ..]) => print(io, &each(words, b"\n")).await,
        (b"printf", [b"%s", words @ ..]) => print(io, &each(words, b"")).await,
        (b"cat", []) => copy(io).await,
        (b"cat", paths) => cat(context, paths, io).await,
        (b"head", [b"-1"]) => first_line(io).await,
        (b"env", [b"-0"]) => {
            let pairs: Vec<Bytes> =
                context.env.iter().map(|(k, v)| [k.as_slice(), v].join(&b'=')).collect();
            let pairs: Vec<&[u8]> = pairs.iter().map(Vec::as_slice).collect();
            print(io, &each(&pairs, b"\0")).await
        }
        (b"pwd", []) => print(io, &each(&[&context.cwd], b"\n")).await,
        // There is no user `pixel` in here, so everything runs as root.
        (b"id", [b"-u"]) => print(io, b"0\n").await,
        (b"hostname", []) => cat(context, &[b"/etc/hostname"], io).await,
        (b"sleep", [seconds]) => match duration(seconds) {
            Some(time) => {
                tokio::time::sleep(time).await;
                OK
            }
            None => fail(io, 1, "sleep: invalid time interval").await,
        },
        (b"mkfifo", [path]) => {
            match context.memory.mkfifo(&context.name, &absolute(context, path)) {
                Ok(()) => OK,
                Err(e) => fail(io, 1, &format!("mkfifo: {e}")).await,
            }
        }
        (b"stty", [b"size"]) => {
            let size = *context.tty.borrow();
            match size {
                Some(s) => print(io, format!("{} {}\n", s.rows, s.cols).as_bytes()).await,
                None => fail(io, 1, "stty: standard input is not a terminal").await,
            }
        }
        (b"sh", [b"-c", script]) => match script_end(script) {
            Some(status) => Ok(status),
            None => fail(io, 2, "sh: only \"exit N\" and \"kill -N $$\" are known in here").await,
        },
        _ => {
            let (code, why) = unknown(context, word);
            fail(io, code, &format!("{}: {why}", text::clean_bytes(word))).await
        }
    }
}

/// How the scripts end that are known.
fn script_end(script: &[u8]) -> Option<ExitStatus> {
    let script = std::str::from_utf8(script).ok()?.trim();
    if let Some(code) = script.strip_prefix("exit ") {
        return code.parse().ok().map(ExitStatus::Code);
    }
    let signal = script.strip_prefix("kill -")?.strip_suffix(" $$")?;
    signal.parse().ok().filter(|n| (1..=64).contains(n)).map(|n| ExitStatus::Signal(Signal(n).0))
}

fn duration(seconds: &[u8]) -> Option<Duration> {
    let seconds: f64 = std::str::from_utf8(seconds).ok()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Every word with `end` after it.
fn each(words: &[&[u8]], end: &[u8]) -> Bytes {
    words.iter().flat_map(|w| [*w, end]).flatten().copied().collect()
}

/// A terminal begins a line where it stands: it needs the carriage back first.
fn for_terminal(bytes: &[u8]) -> Bytes {
    let mut out = Bytes::with_capacity(bytes.len());
    for b in bytes {
        if *b == b'\n' {
            out.push(b'\r');
        }
        out.push(*b);
    }
    out
}

async fn print(io: &mut Io, bytes: &[u8]) -> io::Result<ExitStatus> {
    // A process without stderr is one on a terminal.
    if io.stderr.is_none() {
        io.stdout.write_all(&for_terminal(bytes)).await?;
    } else {
        io.stdout.write_all(bytes).await?;
    }
    OK
}

async fn fail(io: &mut Io, code: u8, message: &str) -> io::Result<ExitStatus> {
    let line = format!("{message}\n");
    match &mut io.stderr {
        // Whether anyone reads complaints makes no difference to the code.
        Some(stderr) => drop(stderr.write_all(line.as_bytes()).await),
        None => drop(print(io, line.as_bytes()).await?),
    }
    Ok(ExitStatus::Code(code))
}

async fn copy(io: &mut Io) -> io::Result<ExitStatus> {
    if let Some(stdin) = &mut io.stdin {
        tokio::io::copy(stdin, &mut io.stdout).await?;
    }
    OK
}

async fn cat(context: &Context, paths: &[&[u8]], io: &mut Io) -> io::Result<ExitStatus> {
    let mut code = 0;
    for path in paths {
        let content = {
            let world = context.memory.lock();
            let path = absolute(context, path);
            world.pixel(&context.name).and_then(|p| p.tree.read(&path))
        };
        match content {
            Ok((_, content)) => {
                print(io, &content).await?;
            }
            Err(e) => {
                code = 1;
                fail(io, code, &format!("cat: {e}")).await?;
            }
        }
    }
    Ok(ExitStatus::Code(code))
}

async fn first_line(io: &mut Io) -> io::Result<ExitStatus> {
    let Some(stdin) = &mut io.stdin else { return OK };
    copy_line(stdin, &mut io.stdout).await?;
    OK
}

async fn copy_line(
    from: &mut (impl tokio::io::AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut byte = [0];
    while from.read(&mut byte).await? == 1 {
        to.write_all(&byte).await?;
        if byte == *b"\n" {
            break;
        }
    }
    Ok(())
}
