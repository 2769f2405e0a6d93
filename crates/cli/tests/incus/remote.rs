//! `remote trust` on the rig's HTTPS listener, what works over it, and images
//! from a server of one's own.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine;
use pixels_wire::{Client, Endpoint, Method, Request, cert};
use serde_json::{Value, json};

use crate::harness::{PATIENCE, World};

/// The daemon's own side of the talk, over its socket.
struct Daemon {
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl Daemon {
    fn of(world: &World) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = Endpoint::Unix(world.rig().socket().unwrap());
        Self { client: Client::new(endpoint), runtime }
    }

    fn call(&self, method: Method, path: &str, body: &Value) -> Value {
        let request = Request::new(method, path).body(body.to_string().into_bytes());
        let answer = self.runtime.block_on(self.client.request(request)).unwrap();
        serde_json::from_slice(&answer.body).unwrap()
    }

    fn token(&self, name: &str, projects: &[&str]) -> Token {
        let body = json!({
            "type": "client", "token": true, "name": name,
            "restricted": !projects.is_empty(), "projects": projects,
        });
        let made = self.call(Method::POST, "/1.0/certificates", &body);
        let meta = &made["metadata"]["metadata"];
        assert!(meta["secret"].is_string(), "{made}");
        Token {
            operation: made["operation"].as_str().unwrap().to_owned(),
            expires: meta["expiresAt"].as_str().map(|t| t.parse().unwrap()),
            content: json!({
                "client_name": name, "fingerprint": meta["fingerprint"],
                "addresses": meta["addresses"], "secret": meta["secret"],
                "expires_at": meta["expiresAt"].as_str().unwrap_or("0001-01-01T00:00:00Z"),
            }),
        }
    }

    /// Whether nobody has redeemed it.
    fn is_unspent(&self, token: &Token) -> bool {
        let path = token.operation.as_str();
        self.runtime.block_on(self.client.request(Request::get(path))).is_ok_and(|answer| {
            serde_json::from_slice::<Value>(&answer.body).unwrap()["metadata"]["status_code"] == 103
        })
    }
}

struct Token {
    operation: String,
    expires: Option<jiff::Timestamp>,
    content: Value,
}

impl Token {
    fn text(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(self.content.to_string())
    }
}

/// Takes the client's certificate back when the test is over.
struct Trust<'a>(&'a Daemon, &'a World);

impl Trust<'_> {
    /// Whether there was one to take back.
    fn withdraw(&self) -> bool {
        let mut any = false;
        for dir in key_dirs(self.1) {
            let Ok(pem) = std::fs::read(dir.join("client.crt")) else { continue };
            let fingerprint = cert::fingerprint(&cert::parse_pem(&pem).unwrap()[0]);
            let path = format!("/1.0/certificates/{fingerprint}");
            let done =
                self.0.runtime.block_on(self.0.client.request(Request::new(Method::DELETE, path)));
            any |= done.is_ok();
        }
        any
    }
}

impl Drop for Trust<'_> {
    fn drop(&mut self) {
        self.withdraw();
    }
}

fn key_dirs(world: &World) -> Vec<std::path::PathBuf> {
    let dir = world.home().join(".config/pixels/incus");
    std::fs::read_dir(dir).into_iter().flatten().map(|e| e.unwrap().path()).collect()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A configuration of somebody who has no remote yet.
fn before(world: &World, first: &str) {
    let image = world.rig().image().unwrap();
    world.config_whole(&format!(
        "# mine\n{first}[defaults] # of mine\nimage = {image:?}\nmemory = 512 # enough\n"
    ));
}

#[test]
fn a_token_makes_a_client_that_can_do_everything() {
    let world = World::new();
    let daemon = Daemon::of(&world);
    let trust = Trust(&daemon, &world);
    before(&world, "");
    let url = world.rig().https().unwrap().trim_end_matches('/').to_owned();
    let mut token = daemon.token(&world.name("t"), &[]);
    // Nothing listens on the first of its addresses.
    token.content["addresses"].as_array_mut().unwrap().insert(0, json!("127.0.0.1:1"));
    let done = world.feed(["remote", "trust", "-"], format!("{}\n", token.text()));
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(done.text(), format!("{url} trusts this client\n"));
    assert_eq!(done.err(), format!("set in {}\n", world.config_file().display()));

    let dirs = key_dirs(&world);
    assert_eq!(dirs.len(), 1, "{dirs:?}");
    let (cert, key, pin) =
        (dirs[0].join("client.crt"), dirs[0].join("client.key"), dirs[0].join("server.crt"));
    assert_eq!((mode(&key), mode(&dirs[0])), (0o600, 0o700));
    assert_eq!(mode(&world.config_file()), 0o600);
    let text = std::fs::read_to_string(world.config_file()).unwrap();
    let image = world.rig().image().unwrap();
    assert!(
        text.starts_with(&format!(
            "# mine\n[defaults] # of mine\nimage = {image:?}\nmemory = 512 # enough\n\n[incus]\n"
        )),
        "{text}"
    );
    let table: toml::Table = text.parse().unwrap();
    assert_eq!(
        table["incus"],
        toml::Value::Table(
            [
                ("remote", url.as_str()),
                ("client_cert", cert.to_str().unwrap()),
                ("client_key", key.to_str().unwrap()),
                ("server_cert", pin.to_str().unwrap())
            ]
            .map(|(k, v)| (k.to_owned(), v.into()))
            .into_iter()
            .collect()
        )
    );

    // A whole life over HTTPS, without a backend named.
    let name = world.create("far");
    let list = world.ok(["list", "--json"]).text();
    assert!(list.contains(&name), "{list}");
    let done = world.feed(["exec", &name, "--", "sh", "-c", "cat; echo apart >&2; exit 7"], "in");
    assert_eq!((done.code, done.text().as_str(), done.err().as_str()), (Some(7), "in", "apart\n"));
    let mut console = world.pty(["console", &name]);
    console.expect(b"# ", PATIENCE).unwrap();
    console.send(b"echo a$((20+3))b; exit 5\r").unwrap();
    console.expect(b"a23b", PATIENCE).unwrap();
    assert_eq!(console.wait(PATIENCE).unwrap().code(), Some(5));
    std::fs::write(world.home().join("f"), b"over https").unwrap();
    let local = world.home().join("f");
    world.ok(["push", local.to_str().unwrap(), &format!("{name}:/root/f")]);
    assert_eq!(world.sh(&name, "cat /root/f"), "over https");
    world.ok(["destroy", "--force", &name]);

    // Again, with a token that is spent: it is not needed.
    let done = world.feed(["remote", "trust"], token.text());
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(done.text(), format!("{url} already trusts this client\n"));
    assert_eq!(std::fs::read_to_string(world.config_file()).unwrap(), text);

    // Once the server has taken its trust back the spent token is no help, a new one is.
    assert!(trust.withdraw());
    let done = world.pixels(["list"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.err().contains("pixels remote trust <token>"), "{done:?}");
    let done = world.feed(["remote", "trust", "-"], token.text());
    assert_eq!(done.code, Some(1), "{done:?}");
    assert_eq!(
        done.err(),
        "error: trust token: permission denied: the server does not take it (no matching certificate add operation found)\n\
         hint: a token works once and for a while: ask for a new one with `incus config trust add <name>`\n"
    );
    assert_eq!(std::fs::read_to_string(world.config_file()).unwrap(), text);
    let new = daemon.token(&world.name("t2"), &[]);
    let done = world.feed(["remote", "trust", "--json"], new.text());
    assert_eq!(done.code, Some(0), "{done:?}");
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((told["remote"].as_str(), &told["already_trusted"]), (Some(&*url), &json!(false)));
    assert_eq!(key_dirs(&world).len(), 1);
    world.ok(["list"]);
    // The secret is in nothing that was written or said.
    let secret = new.content["secret"].as_str().unwrap();
    assert!(!std::fs::read_to_string(world.config_file()).unwrap().contains(secret));
    assert!(!done.text().contains(secret) && !done.err().contains(secret));
}

#[test]
fn a_server_with_another_certificate_gets_nothing() {
    let world = World::new();
    let daemon = Daemon::of(&world);
    before(&world, "");
    let text = std::fs::read(world.config_file()).unwrap();
    let token = daemon.token(&world.name("t"), &[]);
    let real = token.content["fingerprint"].as_str().unwrap().to_owned();
    let flipped = format!("{}{}", if real.starts_with('0') { '1' } else { '0' }, &real[1..]);
    let mut bad = Token { content: token.content.clone(), operation: String::new(), expires: None };
    bad.content["fingerprint"] = json!(flipped);
    let done = world.feed(["remote", "trust", "-"], bad.text());
    assert_eq!(done.code, Some(1), "{done:?}");
    let address = token.content["addresses"][0].as_str().unwrap();
    assert_eq!(
        done.err(),
        format!(
            "error: cannot reach incus at {address}: its certificate has fingerprint {real}, not {flipped}\n\
             hint: nothing was sent: someone may be in between; check the server, then ask for a new token\n"
        )
    );
    assert!(daemon.is_unspent(&token));
    assert!(!world.home().join(".config/pixels/incus").exists());
    assert_eq!(std::fs::read(world.config_file()).unwrap(), text);
    daemon.call(Method::DELETE, &token.operation, &Value::Null);
    for (what, rule) in [("!!!", "is not base64"), ("aGVsbG8=", "does not hold what a token holds")]
    {
        let done = world.feed(["remote", "trust", "-"], what);
        assert_eq!(done.code, Some(1), "{done:?}");
        assert_eq!(
            done.err(),
            format!(
                "error: invalid trust token \"…\": it {rule}\n\
                 hint: the token is what `incus config trust add <name>` prints on the server\n"
            )
        );
    }
}

#[test]
fn a_token_that_has_expired_is_refused() {
    let world = World::alone();
    if world.rig().is_external() {
        // A setting of the whole daemon is not ours to change there.
        return;
    }
    let daemon = Daemon::of(&world);
    let _trust = Trust(&daemon, &world);
    before(&world, "");
    let set = |value: &str| {
        let body = json!({"config": {"core.remote_token_expiry": value}});
        daemon.call(Method::PATCH, "/1.0", &body);
    };
    set("1S");
    let token = daemon.token(&world.name("t"), &[]);
    set("");
    let until = SystemTime::from(token.expires.unwrap()) + Duration::from_millis(20);
    while let Ok(left) = until.duration_since(SystemTime::now()) {
        std::thread::sleep(left);
    }
    let done = world.feed(["remote", "trust", "-"], token.text());
    assert_eq!(done.code, Some(1), "{done:?}");
    assert_eq!(
        done.err(),
        "error: trust token: permission denied: the server does not take it (token has expired)\n\
         hint: a token works once and for a while: ask for a new one with `incus config trust add <name>`\n"
    );
    assert!(!std::fs::read_to_string(world.config_file()).unwrap().contains("remote"));
}

#[test]
fn interrupted_between_the_token_and_the_configuration() {
    let world = World::new();
    let daemon = Daemon::of(&world);
    let _trust = Trust(&daemon, &world);
    // The token is spent, and then the file cannot be changed: as if killed there.
    before(&world, "incus = { project = \"default\" }\n");
    let token = daemon.token(&world.name("t"), &[]);
    let done = world.feed(["remote", "trust", "-"], token.text());
    assert_eq!(done.code, Some(1), "{done:?}");
    let refused = format!("error: {}: incus: ", world.config_file().display());
    assert!(done.err().starts_with(&refused), "{done:?}");
    assert!(!daemon.is_unspent(&token));
    before(&world, "");
    let done = world.feed(["remote", "trust", "-"], token.text());
    assert_eq!(done.code, Some(0), "{done:?}");
    world.ok(["list"]);
    // A backend that is named otherwise is left alone, and said so.
    before(&world, "backend = \"truenas\"\n");
    let done = world.feed(["remote", "trust", "-"], token.text());
    assert_eq!(done.code, Some(0), "{done:?}");
    let file = world.config_file();
    assert!(
        done.err().ends_with(&format!(
            "warning: it is not used: the backend is truenas, because {}:2 says so\n",
            file.display()
        )),
        "{done:?}"
    );
}

#[test]
fn a_client_of_one_project_works_in_it() {
    let world = World::new();
    let daemon = Daemon::of(&world);
    let _trust = Trust(&daemon, &world);
    before(&world, "");
    let project = world.rig().restricted_project().unwrap();
    let token = daemon.token(&world.name("t"), &[project]);
    // As an argument too, although others can see it there.
    let done = world.pixels(["remote", "trust", "--json", &token.text()]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(told["project"], project);
    let name = world.create("res");
    let list: Value = serde_json::from_slice(&world.ok(["list", "--json"]).stdout).unwrap();
    let found = list.as_array().unwrap().iter().find(|p| p["name"] == name.as_str());
    assert!(found.unwrap()["addresses"][0].is_string(), "{list}");
    assert_eq!(world.ok(["exec", &name, "--", "echo", "here"]).text(), "here\n");
    world.ok(["destroy", "--force", &name]);
}

#[test]
fn images_come_from_a_server_of_ones_own() {
    let world = World::new();
    let server = world.rig().simplestreams().unwrap();
    let ca = world.rig().simplestreams_ca().unwrap();
    let image = world.rig().image().unwrap();
    let daemon = Daemon::of(&world);
    // What it got from there in an earlier run it would simply use.
    let all = daemon.call(Method::GET, "/1.0/images?recursion=1", &Value::Null);
    for cached in all["metadata"].as_array().unwrap() {
        let from = cached["update_source"]["server"].as_str().unwrap_or_default();
        if from.trim_end_matches('/') == server.trim_end_matches('/') {
            let path = format!("/1.0/images/{}", cached["fingerprint"].as_str().unwrap());
            let op = daemon.call(Method::DELETE, &path, &Value::Null);
            daemon.call(
                Method::GET,
                &format!("{}/wait", op["operation"].as_str().unwrap()),
                &Value::Null,
            );
        }
    }
    let known = || {
        let images = world.ok(["image", "list", "--json"]);
        let images: Value = serde_json::from_slice(&images.stdout).unwrap();
        let named = |i: &&Value| i["aliases"].as_array().unwrap().iter().any(|a| a == image);
        images.as_array().unwrap().iter().filter(named).count()
    };
    let before = known();
    // Without its CA the daemon does not talk to it.
    world.config_with(&format!("image_server = {server:?}"), "", "");
    let from = format!("images:{image}");
    let done = world.pixels(["create", &world.name("no"), "--image", &from]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(
        done.err().starts_with(&format!("error: cannot reach image server {server}: ")),
        "{done:?}"
    );
    world.config_with(&format!("image_server = {server:?}\nimage_server_ca = {ca:?}"), "", "");
    let name = world.name("img");
    world.ok(["create", &name, "--image", &from]);
    assert_eq!(world.ok(["exec", &name, "--", "echo", "up"]).text(), "up\n");
    assert_eq!(known(), before + 1, "the list shows what was fetched, by its name");
    let done = world.pixels(["create", &world.name("no"), "--image", "images:no/such"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert_eq!(
        done.err(),
        format!(
            "error: image \"images:no/such\" not found\n\
             hint: {server} does not have it: pixels image list shows what is at hand\n"
        )
    );
}
