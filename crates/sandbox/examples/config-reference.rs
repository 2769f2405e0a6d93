//! Prints the table of configuration keys as Markdown: `cargo xtask docs`.

use std::io::Write;

fn main() -> std::io::Result<()> {
    std::io::stdout().lock().write_all(pixels_sandbox::config::reference().as_bytes())
}
