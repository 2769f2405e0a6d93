//! pasta for namespaces of an ordinary user. Run by root it becomes one, with a
//! `/dev/net/tun` of its own that such a user may open.
#![allow(clippy::print_stderr, reason = "says why it cannot run")]
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use pixels_engine::net::pasta;

/// Set in the process that is an ordinary user.
const INNER: &str = "PIXELS_TEST_PASTA";
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const TEST: &str = "an_ordinary_users_pixel_gets_a_network_and_pasta_ends_when_told";

/// What an administrator does for good: a tun device that all may open.
const BECOME: &str = "mknod \"$1/tun\" c 10 200 && chmod 666 \"$1/tun\" && \
    mount --bind \"$1/tun\" /dev/net/tun && \
    exec setpriv --reuid 54321 --regid 54321 --clear-groups \"$2\" --exact \"$3\" --nocapture";

/// Namespaces with a process in them, ended in any case.
struct Pixel(Child);

impl Pixel {
    fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "sh", "-c", "echo; exec sleep 600"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        // A line means that the namespaces are made.
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "\n", "this user may make no namespaces");
        Self(child)
    }

    fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }

    fn inside(&self, args: &[&str]) -> String {
        let pid = self.0.id().to_string();
        let mut command = Command::new("nsenter");
        command.args(["--user", "--net", "--preserve-credentials", "--target", &pid]).args(args);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    }
}

impl Drop for Pixel {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn an_ordinary_users_pixel_gets_a_network_and_pasta_ends_when_told() {
    if rustix::process::geteuid().is_root() {
        return as_an_ordinary_user();
    }
    let tun = std::fs::File::options().read(true).write(true).open("/dev/net/tun");
    if let (Err(e), None) = (tun, std::env::var_os(INNER)) {
        eprintln!("{TEST}: cannot run: /dev/net/tun: {e}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pixel = Pixel::new();
    let attached = pasta::attach(pixel.pid(), MAC, dir.path()).await.unwrap();
    // It is set up, not about to be.
    let addresses = pixel.inside(&["ip", "-oneline", "address", "show", "dev", "eth0"]);
    let routes = pixel.inside(&["ip", "route"]);
    let running = attached.runs();
    attached.stop().await.unwrap();
    assert!(running && !attached.runs());
    attached.stop().await.unwrap();
    assert!(
        addresses.contains(" inet ") && !addresses.contains("scope global inet6"),
        "{addresses}"
    );
    assert!(routes.contains("default via"), "{routes}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the file is gone");
    // A process that has gone is an error that says so.
    let pid = pixel.pid();
    drop(pixel);
    let error = pasta::attach(pid, MAC, dir.path()).await.unwrap_err();
    assert!(error.to_string().starts_with("connecting the pixel with pasta: "), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

fn as_an_ordinary_user() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    // The target directory need not be open to everybody.
    let program = dir.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", BECOME, "sh"]).arg(dir.path()).arg(program).arg(TEST);
    let status = command.env(INNER, "1").env("TMPDIR", "/tmp").current_dir("/").status().unwrap();
    assert!(status.success(), "as an ordinary user: {status}");
}
