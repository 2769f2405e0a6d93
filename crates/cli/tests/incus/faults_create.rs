//! What goes wrong while something is made, or is called off.

use rustix::process::Signal;

use crate::faults::fails;
use crate::harness::{PATIENCE, World};
use crate::rest::{get, images_from, nothing_left, until_instance};

/// A port that answers, with a certificate of nobody's CA that the daemon knows.
#[test]
fn images_that_are_missing_and_servers_that_are_not_reached() {
    let world = World::new();
    let rig = world.rig();
    let (server, ca) = (rig.simplestreams().unwrap(), rig.simplestreams_ca().unwrap());
    let name = world.name("a");
    let of = |server: &str| format!("image_server = {server:?}\nimage_server_ca = {ca:?}");

    world.config_with(&of(server), "", "");
    let done = world.pixels(["create", &name, "--image", "local:nosuch"]);
    let text =
        "error: image \"local:nosuch\" not found\nhint: pixels image list shows what there is\n";
    fails(&done, 1, text);
    let done = world.pixels(["create", &name, "--image", "nosuch"]);
    let text = format!(
        "error: image \"nosuch\" not found\n\
         hint: neither the daemon nor {server} has it: pixels image list shows what is at hand\n"
    );
    fails(&done, 1, &text);
    let done = world.pixels(["create", &name, "--image", "images:nosuch"]);
    let text = format!(
        "error: image \"images:nosuch\" not found\n\
         hint: {server} does not have it: pixels image list shows what is at hand\n"
    );
    fails(&done, 1, &text);

    let closed = "https://127.0.0.1:1";
    world.config_with(&of(closed), "", "");
    let done = world.pixels(["create", &name, "--image", "images:debian/12"]);
    let text = format!(
        "error: cannot reach image server {closed}: connection refused\n\
         hint: set [incus] image_server to one that the daemon reaches, or use an image that it has\n"
    );
    fails(&done, 1, &text);

    // Under a name of its own: the daemon keeps a server's index for a while.
    let alias = server.replace("127.0.0.1", "localhost");
    let wrong = rig.client_cert().unwrap();
    world.config_with(&format!("image_server = {alias:?}\nimage_server_ca = {wrong:?}"), "", "");
    let done = world.pixels(["create", &name, "--image", "images:debian/12"]);
    let text = format!(
        "error: cannot reach image server {alias}: its certificate is not signed by a CA that the \
         daemon trusts\nhint: set [incus] image_server_ca to the certificate of the server's CA\n"
    );
    fails(&done, 1, &text);

    world.config_with("image_server_ca = \"/nonexistent.pem\"", "", "");
    let done = world.pixels(["create", &name, "--image", "images:debian/12"]);
    let text = "error: invalid incus.image_server_ca \"/nonexistent.pem\": there is no such file\n";
    fails(&done, 1, text);
    nothing_left(&world);
    for server in [&alias, closed] {
        assert_eq!(images_from(&world, server), 0, "an image that was half pulled");
    }
}

#[test]
fn places_that_do_not_exist() {
    let world = World::new();
    let name = world.name("a");
    for (defaults, text) in [
        (
            "network = \"nosuch\"",
            "error: network \"nosuch\" not found\n\
             hint: set [defaults] network to one of `incus network list`\n",
        ),
        (
            "pool = \"nosuch\"",
            "error: pool \"nosuch\" not found\n\
             hint: set [defaults] pool to one of `incus storage list`\n",
        ),
        (
            "nic_type = \"bridged\"\nparent = \"nosuchbr\"",
            "error: network \"nosuchbr\" not found\n\
             hint: set [defaults] parent to an interface of the daemon's host\n",
        ),
        (
            "nic_type = \"bridge\"\nparent = \"eth0\"",
            "error: invalid nic_type \"bridge\": a NIC type is bridged, macvlan, ipvlan, routed, \
             sriov or physical\n",
        ),
        (
            "nic_type = \"bridged\"",
            "error: invalid nic_type and parent \"bridged\": nic_type and parent go together\n",
        ),
    ] {
        world.config_with("", defaults, "");
        fails(&world.pixels(["create", &name]), 1, text);
        nothing_left(&world);
    }
    world.config("");
    let text =
        "error: cluster member \"n9\" not found\nhint: `incus cluster list` shows what there is\n";
    fails(&world.pixels(["create", &name, "--target", "n9"]), 1, text);
    nothing_left(&world);
}

#[test]
fn of_two_creates_of_one_name_one_wins() {
    let world = World::shared();
    let source = world.pixel();
    for round in 0..5 {
        let name = world.name(&format!("race{round}"));
        // From the image and as clones.
        let args: &[&str] =
            if round < 2 { &["create", &name] } else { &["create", &name, "--from", source] };
        let two = [world.spawn(args), world.spawn(args)];
        let mut done = two.map(|running| running.wait(PATIENCE));
        done.sort_by_key(|d| d.code);
        let [won, lost] = done;
        assert_eq!((won.code, won.text()), (Some(0), format!("{name}\n")), "{won:?}");
        let taken = format!(
            "error: pixel {name:?} already exists\nhint: pixels destroy {name} removes it\n"
        );
        fails(&lost, 1, &taken);
        // The loser has not touched what the winner made.
        world.ok(["exec", &name, "--", "true"]);
        world.ok(["destroy", &name]);
    }
}

/// The requests after which a create is called off, in the order it makes them.
const PHASES: [&str; 4] = [
    "method=POST path=\"/1.0/instances\"",
    "/wait?timeout=-1\"",
    "/state\"",
    "method=GET path=\"/1.0/images/aliases/",
];

#[test]
fn an_interrupted_create_leaves_nothing() {
    let world = World::new();
    let name = world.name("a");
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        for phase in PHASES {
            let running = world.spawn(["-vv", "create", &name]);
            running.until_err(phase);
            running.signal(signal);
            let done = running.wait(PATIENCE);
            assert_eq!((done.code, done.text().as_str()), (Some(code), ""), "{phase}: {done:?}");
            assert!(done.err().ends_with("error: interrupted\n"), "{phase}: {done:?}");
            nothing_left(&world);
        }
        let running = world.spawn(["create", &name]);
        until_instance(&world, &name);
        running.signal(signal);
        fails(&running.wait(PATIENCE), code, "error: interrupted\n");
        nothing_left(&world);
    }
    // Nothing is in a rerun's way, and it is not swept later.
    world.ok(["create", &name]);
    world.ok(["gc"]);
    let copy = world.name("b");
    for signal in [Signal::INT, Signal::TERM] {
        let running = world.spawn(["create", &copy, "--from", &name]);
        until_instance(&world, &copy);
        running.signal(signal);
        let code = 128 + signal.as_raw();
        fails(&running.wait(PATIENCE), code, "error: interrupted\n");
        assert!(get(&world, &format!("/1.0/instances/px-{copy}")).is_null());
        let snapshots = get(&world, &format!("/1.0/instances/px-{name}/snapshots"));
        assert_eq!(snapshots, serde_json::json!([]));
    }
    world.ok(["create", &copy, "--from", &name]);
    world.ok(["destroy", &name, &copy]);
    nothing_left(&world);
}

#[test]
fn a_shutdown_that_takes_too_long() {
    let world = World::new();
    let name = world.create("a");
    world.until(&name, "systemctl is-system-running | grep -Eq 'running|degraded'");
    world.sh(
        &name,
        "printf '[Service]\\nType=oneshot\\nRemainAfterExit=yes\\nExecStart=/bin/true\\n\
         ExecStop=/bin/sleep 3600\\nTimeoutStopSec=3600\\n' >/etc/systemd/system/block.service && \
         systemctl daemon-reload && systemctl start block.service",
    );
    let text = format!(
        "error: clean shutdown of {name} timed out after 2 s\n\
         hint: pixels stop --force {name} kills it\n"
    );
    fails(&world.pixels(["stop", "--timeout", "2", &name]), 1, &text);
    let done = world.ok(["stop", "--force", &name]);
    assert_eq!(done.err(), format!("stopped {name}\n"));
    assert_eq!(get(&world, &format!("/1.0/instances/px-{name}"))["status"], "Stopped");
}

#[test]
fn a_restricted_project_is_enough() {
    let world = World::new();
    let rig = world.rig();
    let project = rig.restricted_project().unwrap();
    world.config_whole(&format!(
        "backend = \"incus\"\n[incus]\nremote = {:?}\nserver_cert = {:?}\nclient_cert = {:?}\n\
         client_key = {:?}\nproject = {project:?}\n[defaults]\nimage = {:?}\nmemory = 512\n",
        rig.https().unwrap(),
        rig.server_cert().unwrap(),
        rig.var("PIXELS_RIG_RESTRICTED_CERT").unwrap(),
        rig.var("PIXELS_RIG_RESTRICTED_KEY").unwrap(),
        rig.image().unwrap(),
    ));
    let (name, copy) = (world.create("a"), world.name("b"));
    world.ok(["create", &copy, "--from", &name]);
    for pixel in [&name, &copy] {
        assert_eq!(world.sh(pixel, "echo it is $(id -u)"), "it is 0\n");
        let instance = get(&world, &format!("/1.0/instances/px-{pixel}?project={project}"));
        assert_eq!(instance["status"], "Running");
        assert!(instance["config"]["raw.lxc"].as_str().unwrap_or("").is_empty(), "{instance}");
    }
    world.ok(["destroy", &name, &copy]);
    nothing_left(&world);
}
