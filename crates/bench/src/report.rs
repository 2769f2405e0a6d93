//! The result as a Markdown table.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what this file is for")]

use crate::figures::Figure;

/// Says why there is no result.
pub(crate) fn complain(message: &str) {
    eprintln!("{message}");
}

/// The table.
pub(crate) fn print(figures: &[Figure]) {
    println!("| what | ours | against | result | bound | holds |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for f in figures {
        let (bound, holds) =
            f.bound.map_or(("", ""), |(b, h)| (b, if h { "yes" } else { "**no**" }));
        println!("| {} | {} | {} | {} | {bound} | {holds} |", f.what, f.ours, f.against, f.result);
    }
}
