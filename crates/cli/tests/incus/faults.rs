//! What goes wrong before anything is made: each with its message, and nothing
//! left behind.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{Done, Own, PATIENCE, Running, World};
use crate::rest::nothing_left;

/// That it failed with this code and exactly these lines, and printed no result.
#[track_caller]
pub fn fails(done: &Done, code: i32, stderr: &str) {
    assert_eq!(
        (done.code, done.err().as_str(), done.text().as_str()),
        (Some(code), stderr, ""),
        "{done:?}"
    );
}

/// A world whose configuration is `incus` in the section of that name.
fn configured(incus: &str) -> Own {
    let world = World::new();
    world.config_whole(&format!("backend = \"incus\"\n[incus]\n{incus}\n"));
    world
}

/// Configures the rig's remote, with one key replaced.
fn remote(world: &World, key: &str, value: &str) {
    let rig = world.rig();
    let show = |path: std::path::PathBuf| path.display().to_string();
    let keys = [
        ("remote", rig.https().unwrap().to_owned()),
        ("server_cert", show(rig.server_cert().unwrap())),
        ("client_cert", show(rig.client_cert().unwrap())),
        ("client_key", show(rig.client_key().unwrap())),
        ("project", String::new()),
    ];
    let lines: String = keys
        .into_iter()
        .map(|(k, v)| if k == key { (k, value.to_owned()) } else { (k, v) })
        .filter(|(_, v)| !v.is_empty())
        .map(|(k, v)| format!("{k} = {v:?}\n"))
        .collect();
    world.config_whole(&format!("backend = \"incus\"\n[incus]\n{lines}"));
}

#[test]
fn there_is_no_socket() {
    let world = configured("socket = \"/nonexistent/unix.socket\"");
    let text = "error: cannot reach incus at /nonexistent/unix.socket: no such socket\n\
                hint: start the daemon, or set [incus] socket or remote to where it listens\n";
    fails(&world.pixels(["list"]), 1, text);
    fails(&world.pixels(["create", &world.name("a")]), 1, text);
    fails(&world.pixels(["exec", &world.name("a"), "--", "true"]), 125, text);
}

#[test]
fn a_dead_daemons_socket_refuses() {
    let world = World::new();
    let socket = world.home().join("stale.socket");
    drop(UnixListener::bind(&socket).unwrap());
    world.config_whole(&format!("backend = \"incus\"\n[incus]\nsocket = {socket:?}\n"));
    let text = format!(
        "error: cannot reach incus at {}: connection refused\n\
         hint: nothing listens there: start the daemon (systemctl start incus)\n",
        socket.display()
    );
    fails(&world.pixels(["list"]), 1, &text);
    fails(&world.pixels(["create", &world.name("a")]), 1, &text);
}

#[test]
fn this_user_may_not_use_the_socket() {
    let world = World::new();
    let open = |path: &Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    // The program and its configuration where that user can read them.
    let place = tempfile::tempdir().unwrap();
    open(place.path());
    let program = place.path().join("pixels");
    std::fs::copy(env!("CARGO_BIN_EXE_pixels"), &program).unwrap();
    open(&program);
    let socket = world.rig().socket().unwrap();
    let mut command = Command::new(&program);
    command.env_clear().env("HOME", place.path()).env("PIXELS_BACKEND", "incus");
    command.env("PIXELS_INCUS_SOCKET", &socket).args(["list"]).stdin(Stdio::null());
    command.uid(65534).gid(65534);
    let text = format!(
        "error: incus at {}: permission denied: this user may not use the socket\n\
         hint: join the socket's group: sudo usermod -aG incus-admin $USER, then log in again\n",
        socket.display()
    );
    fails(&Running::start(command).wait(PATIENCE), 1, &text);
}

#[test]
fn nothing_listens_at_the_remote() {
    let world = World::new();
    remote(&world, "remote", "https://127.0.0.1:1");
    let text = "error: cannot reach incus at https://127.0.0.1:1: connection refused\n\
                hint: nothing listens there: start the daemon (systemctl start incus)\n";
    fails(&world.pixels(["list"]), 1, text);
}

#[test]
fn certificates_that_cannot_be_used() {
    let world = World::new();
    let garbage = world.home().join("garbage.pem");
    std::fs::write(&garbage, "not a certificate, but SECRET-KEY-MATERIAL\n").unwrap();
    let garbage = garbage.display().to_string();
    let other_key = world.rig().var("PIXELS_RIG_UNTRUSTED_KEY").unwrap();
    for (key, value, rule) in [
        ("client_cert", "/nonexistent.crt", "there is no such file"),
        ("client_key", "/nonexistent.key", "there is no such file"),
        ("server_cert", "/nonexistent.crt", "there is no such file"),
        ("client_cert", &garbage, "it holds no certificate in PEM"),
        ("client_key", &garbage, "it holds no private key in PEM"),
        ("server_cert", &garbage, "it holds no certificate in PEM"),
        ("client_key", other_key, "it is not the key of incus.client_cert"),
        ("server_cert", "/", "it is a directory"),
    ] {
        remote(&world, key, value);
        let text = format!("error: invalid incus.{key} {value:?}: {rule}\n");
        fails(&world.pixels(["list"]), 1, &text);
    }
    remote(&world, "client_key", "");
    let cert = world.rig().client_cert().unwrap();
    let text = format!(
        "error: invalid incus.client_cert and incus.client_key {cert:?}: \
         a client certificate and its key go together\n"
    );
    fails(&world.pixels(["list"]), 1, &text);
}

#[test]
fn the_server_is_another_than_the_pinned_one() {
    // A certificate for a server, of nobody's: not a CA, unlike the rig's clients'.
    let other = rcgen::generate_simple_self_signed(vec!["other".into()]).unwrap().cert;
    let world = World::new();
    let file = world.home().join("other.crt");
    std::fs::write(&file, other.pem()).unwrap();
    let shown = pixels_fingerprint(other.der());
    let theirs = std::fs::read(world.rig().server_cert().unwrap()).unwrap();
    let theirs = pixels_fingerprint(&pem_to_der(&theirs));
    let place = world.rig().https().unwrap();
    remote(&world, "server_cert", file.to_str().unwrap());
    let text = format!(
        "error: cannot reach incus at {place}: the server's certificate has fingerprint \
         {theirs}, not {shown}\n\
         hint: if the server was set up anew, get its certificate again and replace [incus] \
         server_cert; else someone is in between\n"
    );
    fails(&world.pixels(["list"]), 1, &text);
    fails(&world.pixels(["create", &world.name("a")]), 1, &text);
    nothing_left(&world);

    // A CA that has not signed it, and the host's own CAs.
    let client = world.rig().client_cert().unwrap();
    for value in [client.to_str().unwrap(), ""] {
        remote(&world, "server_cert", value);
        let text = format!(
            "error: cannot reach incus at {place}: the server's certificate is not signed by a \
             trusted CA\nhint: set [incus] server_cert to the server's certificate, or run \
             pixels remote trust <token>\n"
        );
        fails(&world.pixels(["list"]), 1, &text);
    }
}

fn pixels_fingerprint(der: &[u8]) -> String {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(der).iter().map(|b| format!("{b:02x}")).collect()
}

fn pem_to_der(pem: &[u8]) -> Vec<u8> {
    let out = {
        let mut command = Command::new("openssl");
        command.args(["x509", "-outform", "DER"]).stdin(Stdio::piped());
        let mut running = Running::start(command);
        running.feed(pem.to_vec());
        running.wait(PATIENCE)
    };
    assert_eq!(out.code, Some(0), "{out:?}");
    out.stdout
}

#[test]
fn the_daemon_does_not_trust_us() {
    let world = World::new();
    let rig = world.rig();
    let (cert, key) = (
        rig.var("PIXELS_RIG_UNTRUSTED_CERT").unwrap(),
        rig.var("PIXELS_RIG_UNTRUSTED_KEY").unwrap(),
    );
    let place = rig.https().unwrap();
    let name = world.name("a");
    let text = format!(
        "error: incus at {place}: permission denied: the daemon does not trust this client\n\
         hint: ask its owner for a token (incus config trust add <name>) and run pixels remote \
         trust <token>\n"
    );
    let server = rig.server_cert().unwrap();
    for identity in [format!("client_cert = {cert:?}\nclient_key = {key:?}"), String::new()] {
        world.config_whole(&format!(
            "backend = \"incus\"\n[incus]\nremote = {place:?}\nserver_cert = {server:?}\n{identity}\n"
        ));
        fails(&world.pixels(["list"]), 1, &text);
        fails(&world.pixels(["create", &name]), 1, &text);
        fails(&world.pixels(["exec", &name, "--", "true"]), 125, &text);
        fails(&world.pixels(["image", "list"]), 1, &text);
        fails(&world.pixels(["destroy", &name, "--force"]), 1, &text);
    }
    nothing_left(&world);
}

#[test]
fn the_project_is_missing_or_forbidden() {
    let world = World::new();
    world.config_with("project = \"nosuch\"", "", "");
    let name = world.name("a");
    let text = "error: project \"nosuch\" not found\n\
                hint: set [incus] project to one of `incus project list`\n";
    for args in [
        &["list"][..],
        &["create", &name],
        &["destroy", &name, "--force"],
        &["start", &name],
        &["stop", &name],
        &["checkpoint", "create", &name],
        &["checkpoint", "list", &name],
        &["push", "/etc/hostname", &format!("{name}:/tmp/")],
        &["create", &name, "--from", &world.name("b")],
        &["image", "list"],
        &["gc"],
    ] {
        fails(&world.pixels(args), 1, text);
    }
    fails(&world.pixels(["exec", &name, "--", "true"]), 125, text);

    let rig = world.rig();
    world.config_whole(&format!(
        "backend = \"incus\"\n[incus]\nremote = {:?}\nserver_cert = {:?}\nclient_cert = {:?}\n\
         client_key = {:?}\n",
        rig.https().unwrap(),
        rig.server_cert().unwrap(),
        rig.var("PIXELS_RIG_RESTRICTED_CERT").unwrap(),
        rig.var("PIXELS_RIG_RESTRICTED_KEY").unwrap(),
    ));
    let text = "error: project \"default\": permission denied: this client may use other \
                projects only\nhint: set [incus] project to one of `incus project list`\n";
    fails(&world.pixels(["list"]), 1, text);
    fails(&world.pixels(["create", &name]), 1, text);
    nothing_left(&world);
}

/// No socket is there, so a request would fail in another way.
#[test]
fn names_are_refused_before_any_request() {
    let world = configured("socket = \"/nonexistent/unix.socket\"");
    let long = "a".repeat(60);
    for name in ["Upper", "a_b", "-a", "a-", "a.b", "ü", "a b", "px-px-a", &long] {
        let text = format!(
            "error: invalid name {name:?}: a name is 1 to 59 lower-case letters, digits and \
             inner hyphens (a leading px- is dropped)\n"
        );
        for (verb, rest) in [("create", &[][..]), ("exec", &["--", "true"]), ("destroy", &[])] {
            let args: Vec<&str> =
                [verb, "--", name].into_iter().chain(rest.iter().copied()).collect();
            let args = if verb == "exec" && !name.starts_with('-') {
                [verb, name].into_iter().chain(rest.iter().copied()).collect()
            } else {
                args
            };
            let hint = format!("hint: pixels {verb} --help shows how it is used\n");
            fails(&world.pixels(args), 2, &format!("{text}{hint}"));
        }
    }
    let done = world.pixels(["checkpoint", "create", "a", "b/c"]);
    fails(
        &done,
        2,
        "error: invalid label \"b/c\": a label is 1 to 63 letters, digits and ._- (and neither . \
         nor ..)\nhint: pixels checkpoint create --help shows how it is used\n",
    );
}

#[test]
fn restricted_egress_is_refused_before_any_request() {
    let world = configured("socket = \"/nonexistent/unix.socket\"");
    for mode in ["agent", "allowlist"] {
        let text = format!(
            "error: the incus backend does not support the egress mode {mode} yet\n\
             hint: leave --egress and --allow out: the pixel is then unrestricted\n"
        );
        fails(&world.pixels(["create", "a", "--egress", mode]), 1, &text);
        fails(&world.pixels(["run", "--egress", mode, "--", "true"]), 125, &text);
    }
    world.config_whole(
        "backend = \"incus\"\n[incus]\nsocket = \"/nonexistent/unix.socket\"\n\
         [network]\negress = \"agent\"\n",
    );
    let file = world.config_file();
    let text = format!(
        "error: the incus backend does not support the egress mode agent yet\n\
         hint: network.egress = \"unrestricted\" (now set by {}:5), or --egress unrestricted\n",
        file.display()
    );
    fails(&world.pixels(["create", "a"]), 1, &text);
}

#[test]
fn a_bad_value_names_file_line_and_key() {
    let world = World::new();
    let file = world.config_file();
    for (text, line, said) in [
        ("backend = \"incus\"\n[incus]\nsockets = \"/x\"\n", 3, "incus.sockets: "),
        ("[defaults]\n\nmemory = \"much\"\n", 3, "defaults.memory: "),
        ("[defaults]\ndns = [\"1.2.3.4\", \"nope\"]\n", 2, "defaults.dns: "),
        ("[incus.hardening]\nisolate_idmap = \"yes\"\n", 2, "incus.hardening.isolate_idmap: "),
        ("[network]\negress = \"some\"\n", 2, "network.egress: "),
        ("[incus\n", 1, ""),
    ] {
        world.config_whole(text);
        let done = world.pixels(["list"]);
        let start = format!("error: {}:{line}: {said}", file.display());
        assert_eq!((done.code, done.text().as_str()), (Some(1), ""), "{text:?}: {done:?}");
        assert!(done.err().starts_with(&start), "{text:?}: {done:?}");
    }
}

#[test]
fn pixels_that_are_missing_or_stopped() {
    let world = World::new();
    let name = world.name("a");
    let missing =
        format!("error: pixel {name:?} not found\nhint: pixels list shows what there is\n");
    let path = format!("{name}:/tmp/");
    for args in [
        &["destroy", &name][..],
        &["start", &name],
        &["stop", &name],
        &["checkpoint", "create", &name],
        &["checkpoint", "list", &name],
        &["push", "/etc/hostname", &path],
        &["create", &world.name("b"), "--from", &name],
        &["create", &world.name("b"), "--from", &format!("{name}:x")],
    ] {
        fails(&world.pixels(args), 1, &missing);
    }
    fails(&world.pixels(["exec", &name, "--", "true"]), 125, &missing);
    let done = world.pixels(["destroy", "--force", &name]);
    fails(&done, 0, &format!("did not exist: {name}\n"));
    nothing_left(&world);

    world.create("a");
    let no_label = format!(
        "error: checkpoint \"{name}:x\" not found\n\
         hint: pixels checkpoint list {name} shows what there is\n"
    );
    fails(
        &world.pixels(["create", &world.name("b"), "--from", &format!("{name}:x")]),
        1,
        &no_label,
    );
    let taken =
        format!("error: pixel {name:?} already exists\nhint: pixels destroy {name} removes it\n");
    fails(&world.pixels(["create", &name]), 1, &taken);
    fails(&world.pixels(["create", &name, "--from", &name]), 1, &taken);
    world.ok(["stop", "--force", &name]);
    let stopped = format!(
        "error: pixel {name:?} is stopped, and commands need it running\nhint: pixels start {name}\n"
    );
    fails(&world.pixels(["exec", &name, "--", "true"]), 125, &stopped);
    fails(&world.pixels(["exec", "--root", &name, "--", "true"]), 125, &stopped);
    let done = world.ok(["destroy", &name]);
    assert_eq!((done.text(), done.err()), (String::new(), format!("destroyed {name}\n")));
    nothing_left(&world);
}
