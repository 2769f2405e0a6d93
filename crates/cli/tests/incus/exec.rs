//! Commands in a pixel.

use crate::harness::World;

#[test]
fn output_and_exit_code_come_back() {
    let world = World::shared();
    let done =
        world.pixels(["exec", world.pixel(), "--", "sh", "-c", "echo a; echo b >&2; exit 7"]);
    assert_eq!((done.code, done.text().as_str(), done.err().as_str()), (Some(7), "a\n", "b\n"));
}
