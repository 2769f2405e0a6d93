//! `pixels`: disposable Linux machines for AI coding agents, from the command line.

mod app;
mod args;
mod commands;
mod context;
mod exit;
mod input;
mod log;
mod signals;
mod stream;
mod tty;
mod ui;

fn main() {
    app::main()
}
