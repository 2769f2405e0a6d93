//! `pixels`. The program is in the library beside it.

fn main() {
    pixels_cli::main(pixels_sandbox::Pixels::open)
}
