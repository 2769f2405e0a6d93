use std::path::Path;

use super::*;

/// Loads a file with this content, these variables and these flags.
fn load(
    text: &str,
    vars: &[(&str, &str)],
    flags: &[(&str, &str, &str)],
) -> (tempfile::TempDir, Result<Config, ConfigError>) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    std::fs::write(&file, text).unwrap();
    let environ = [("HOME", "/home/me")].iter().chain(vars).copied().collect();
    let mut loader = Loader { environ, cwd: Some("/srv".into()), ..Loader::default() }.file(file);
    for (key, name, value) in flags {
        loader = loader.flag(key, name, *value);
    }
    let config = Config::load(loader);
    (dir, config)
}

fn good(text: &str) -> Config {
    load(text, &[], &[]).1.unwrap()
}

/// The refusal of a file, with its directory cut off.
fn refusal(text: &str) -> String {
    let (dir, result) = load(text, &[], &[]);
    let message = result.unwrap_err().to_string();
    message.replace(&format!("{}/", dir.path().display()), "")
}

/// A value that each kind accepts, as text, and what it shows as; `n` tells three apart.
fn sample(key: &Key, n: usize) -> (String, String) {
    let same = |s: &str| (s.to_owned(), s.to_owned());
    match key.kind {
        Kind::Text => same(&format!("text{n}")),
        Kind::Bool => same(if n.is_multiple_of(2) ^ (key.default == Some("false")) {
            "false"
        } else {
            "true"
        }),
        Kind::Count | Kind::Port | Kind::Cpu => same(&format!("{}", 7 + n)),
        Kind::Backend => same(["local", "incus", "truenas"][n]),
        Kind::Size => (format!("{}GiB", n + 3), format!("{}.0 GiB", n + 3)),
        Kind::Duration => same(&format!("{}m", n + 2)),
        Kind::Path | Kind::Paths => same(&format!("/p/{n}")),
        Kind::Url => same(&format!("https://host{n}:8443")),
        Kind::Listen => same(&format!("127.0.0.1:{}", n + 1)),
        Kind::Endpoint => same(&format!("/e{n}")),
        Kind::Egress => same(["agent", "allowlist", "agent"][n]),
        Kind::Domains => same(&format!("a{n}.com,*.b.com:8443")),
        Kind::Addresses => same(&format!("10.0.0.{n},::1")),
        Kind::Devtools => same(&format!("node@{n},mise")),
        Kind::Prefix => same(&format!("p{n}-")),
        Kind::Subnet => same(&format!("10.{n}.0.0/16")),
    }
}

fn toml_of(key: &Key, text: &str) -> String {
    match key.kind {
        Kind::Bool | Kind::Count | Kind::Port => text.to_owned(),
        Kind::Domains | Kind::Addresses | Kind::Devtools | Kind::Paths => {
            let items: Vec<_> = text.split(',').map(|i| format!("{i:?}")).collect();
            format!("[{}]", items.join(", "))
        }
        _ => format!("{text:?}"),
    }
}

#[test]
fn every_key_takes_the_four_layers_in_order() {
    for key in KEYS {
        let shown = |config: &Config| {
            let entry = config.entries().into_iter().find(|e| e.key == key.name).unwrap();
            (entry.value.map(|v| v.to_string()), entry.source)
        };
        let hidden =
            |text: String| if key.secret { Some("(hidden)".to_owned()) } else { Some(text) };
        let (_, source) = shown(&good(""));
        assert_eq!(source, Source::Default, "{}", key.name);

        let (one, one_shown) = sample(key, 0);
        let (two, two_shown) = sample(key, 1);
        let (three, three_shown) = sample(key, 2);
        let text = format!("# one\n{} = {}\n", key.name, toml_of(key, &one));
        let (dir, config) = load(&text, &[], &[]);
        let path = dir.path().join("config.toml");
        let want = (hidden(one_shown), Source::File { path, line: 2 });
        assert_eq!(shown(&config.unwrap()), want, "{text}");

        for var in key.vars {
            let (_, config) = load(&text, &[(var, &two)], &[]);
            let want = (hidden(two_shown.clone()), Source::Env { var: (*var).into() });
            assert_eq!(shown(&config.unwrap()), want, "{}", key.name);
        }
        let (_, config) = load(&text, &[(key.vars[0], &two)], &[(key.name, "--flag", &three)]);
        let want = (hidden(three_shown), Source::Flag { name: "--flag".into() });
        assert_eq!(shown(&config.unwrap()), want, "{}", key.name);
    }
}

#[test]
fn variables_have_their_names() {
    for key in KEYS {
        let long = format!("PIXELS_{}", key.name.replace('.', "_").to_uppercase());
        let irregular = key.name.starts_with("defaults.") || key.name.ends_with("skip_verify");
        assert!(irregular || key.vars == [long.as_str()], "{}: {:?}", key.name, key.vars);
        assert!(key.vars.contains(&long.as_str()), "{}: {:?}", key.name, key.vars);
        assert!(!key.doc.is_empty());
    }
}

#[test]
fn the_reference_has_every_key() {
    let text = reference();
    for key in KEYS {
        assert!(text.contains(&format!("| `{}` |", key.name)), "{}", key.name);
    }
    assert!(text.contains("| `defaults.cpu` | a number of CPUs or a set such as \"0-3\" | `2` | `PIXELS_DEFAULT_CPU` |"));
}

#[test]
fn defaults_are_the_documented_ones() {
    let c = good("");
    assert_eq!(c.backend, None);
    assert_eq!((c.truenas.username.as_str(), c.truenas.insecure_skip_verify), ("root", false));
    assert_eq!((c.defaults.image.as_str(), c.defaults.cpu.as_str()), ("ubuntu/24.04", "2"));
    assert_eq!((c.defaults.memory, c.defaults.disk), (2048 << 20, None));
    assert_eq!((c.ssh.user.as_str(), c.ssh.strict_host_keys), ("pixel", true));
    assert_eq!(c.ssh.key.as_deref(), Some(Path::new("/home/me/.ssh/id_ed25519")));
    assert_eq!((c.provision.enabled, c.provision.devtools), (true, Devtools::All));
    assert_eq!(c.network.egress, pixels_core::EgressMode::Unrestricted);
    assert_eq!(c.incus.image_server, "https://images.linuxcontainers.org");
    assert_eq!((c.local.subnet.as_str(), c.local.no_new_privs), ("10.209.0.0/16", false));
    assert_eq!(c.local.root, None);
    let h = &c.incus.hardening;
    assert!(h.isolate_idmap && h.disable_guestapi && h.hard_memory_limit);
    assert_eq!(h.limit_processes, 8192);
    assert_eq!((c.mcp.prefix.as_str(), c.mcp.base_prefix.as_str()), ("mcp-", "base-"));
    assert_eq!(c.mcp.listen_addr.to_string(), "127.0.0.1:8765");
    assert_eq!(c.mcp.endpoint_path, "/mcp");
    let seconds = [
        c.mcp.idle_stop_after,
        c.mcp.hard_destroy_after,
        c.mcp.reap_interval,
        c.mcp.exec_timeout_max,
    ]
    .map(|d| d.as_secs());
    assert_eq!(seconds, [3600, 86_400, 60, 600]);
    // Without a home directory there is no key below it, and no failure.
    assert_eq!(Config::default().ssh.key, None);
}

#[test]
fn values_take_their_documented_forms() {
    let c = good(
        "[defaults]\ncpu = 4\nmemory = 4096\ndisk = \"20GiB\"\n[provision]\ndevtools = false\n[incus]\nclient_cert = \"tls/c.pem\"\nclient_key = \"~/k.pem\"\n",
    );
    assert_eq!((c.defaults.cpu.as_str(), c.defaults.memory), ("4", 4096 << 20));
    assert_eq!(c.defaults.disk, Some(20 << 30));
    assert_eq!(c.provision.devtools, Devtools::None);
    assert_eq!(c.incus.client_key.as_deref(), Some(Path::new("/home/me/k.pem")));
    let cert = c.incus.client_cert.unwrap();
    assert!(cert.is_absolute() && cert.ends_with("tls/c.pem"), "{cert:?}");
    // Elsewhere a relative path starts at the working directory.
    let (_, c) = load("", &[("PIXELS_INCUS_SOCKET", "s.sock")], &[]);
    assert_eq!(c.unwrap().incus.socket.as_deref(), Some(Path::new("/srv/s.sock")));
    // Set to nothing is unset.
    let (_, c) = load("", &[("PIXELS_DEFAULT_CPU", "")], &[]);
    assert_eq!(c.unwrap().defaults.cpu, "2");
}

#[test]
fn refusals_name_file_line_and_key() {
    let size = "expected a number of MiB or a string such as \"4GiB\"";
    let cases = [
        ("a = 1", "config.toml:1: a: unknown key".to_owned()),
        (
            "\n[defaults]\nmemori = 1",
            "config.toml:3: defaults.memori: unknown key; defaults.memory is near it".into(),
        ),
        ("[typo]\nx = 1", "config.toml:1: typo: unknown key".into()),
        (
            "[defaults]\n\nmemory = \"lots\"",
            format!("config.toml:3: defaults.memory: {size}, not \"lots\""),
        ),
        ("[defaults]\nmemory = -5", format!("config.toml:2: defaults.memory: {size}, not \"-5\"")),
        ("[defaults]\nmemory = 1.5", format!("config.toml:2: defaults.memory: {size}, not a float")),
        ("defaults = 3", "config.toml:1: defaults: expected a table, not an integer".into()),
        (
            "[network]\negress = \"none\"",
            "config.toml:2: network.egress: expected unrestricted, agent or allowlist, not \"none\""
                .into(),
        ),
        (
            "[network]\nallow = [\"ok.com\", 3]",
            "config.toml:2: network.allow: expected a list of strings, with an integer in it"
                .into(),
        ),
        (
            "[network]\nallow = \"ok.com\"",
            "config.toml:2: network.allow: expected a list of domains, not a string".into(),
        ),
        (
            "[ssh]\nstrict_host_keys = \"yes\"",
            "config.toml:2: ssh.strict_host_keys: expected true or false, not a string".into(),
        ),
        (
            "[mcp]\nidle_stop_after = \"1 hour\"",
            "config.toml:2: mcp.idle_stop_after: expected a string such as \"90m\", not \"1 hour\""
                .into(),
        ),
        (
            "[mcp]\nlisten_addr = \"8765\"",
            "config.toml:2: mcp.listen_addr: expected an address and port such as \"127.0.0.1:8765\", not \"8765\"".into(),
        ),
        (
            "[incus]\nremote = \"http://h\"",
            "config.toml:2: incus.remote: expected an https:// address, not \"http://h\"".into(),
        ),
        ("[incus]\nsocket = \"\"", "config.toml:2: incus.socket: must not be empty".into()),
        (
            "[env]\nA = 1",
            "config.toml:2: env.A: expected a string or a table, not an integer".into(),
        ),
        (
            "[env]\nA = { forward = true, value = \"x\" }",
            "config.toml:2: env.A: has both a value and forward = true; choose one".into(),
        ),
        (
            "[env]\nA = { forwrd = true }",
            "config.toml:2: env.A.forwrd: unknown key; there are value, session_only and forward"
                .into(),
        ),
        ("[env]\nA = {}", "config.toml:2: env.A: needs a value or forward = true".into()),
        (
            "[env]\nA = \"a\\nb\"",
            "config.toml:2: env.A: a stored value is one line; session_only = true takes any".into(),
        ),
        (
            "[mcp.bases.x]\nparent_image = \"a\"\nfrom = \"b\"",
            "config.toml:1: mcp.bases.x: has both parent_image and from; choose one".into(),
        ),
        (
            "[mcp.bases.x]\nfrom = \"y\"\n[mcp.bases.y]\nfrom = \"x\"",
            "config.toml:1: mcp.bases.x.from: the bases come from each other: x from y from x"
                .into(),
        ),
        (
            "[mcp.bases.x]\nscript = \"y\"",
            "config.toml:2: mcp.bases.x.script: unknown key; there are parent_image, from, setup_script and description".into(),
        ),
    ];
    for (text, want) in cases {
        assert_eq!(refusal(text), want, "{text}");
    }
    assert!(refusal("[a\n").starts_with("config.toml:1: "));
    assert!(refusal("x = 1\nx = 2").starts_with("config.toml:2: duplicate key"));
    // The first mistake in the file, not in the alphabet.
    assert!(refusal("[ssh]\nzzz = 1\n[env]\nA = 1\n").contains("ssh.zzz"));
}

#[test]
fn refusals_name_variable_and_flag() {
    let (_, result) = load("", &[("PIXELS_DEFAULT_MEMORY", "x")], &[]);
    let want = "PIXELS_DEFAULT_MEMORY: defaults.memory: expected a number of MiB or a string such as \"4GiB\", not \"x\"";
    assert_eq!(result.unwrap_err().to_string(), want);
    let (_, result) = load("", &[], &[("backend", "--backend", "docker")]);
    let want = "--backend: backend: expected local, incus or truenas, not \"docker\"";
    let err = result.unwrap_err();
    assert_eq!(err.to_string(), want);
    assert_eq!(pixels_core::Error::from(err).code(), "invalid");
}

#[test]
fn files_that_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("no.toml");
    let err = Config::load(Loader::default().file(&missing)).unwrap_err();
    assert_eq!(err.to_string(), format!("{}: no such file", missing.display()));
    // The default file may be missing.
    let environ: Environ = [("XDG_CONFIG_HOME", dir.path())].into_iter().collect();
    let config = Config::load(Loader { environ, ..Loader::default() }).unwrap();
    assert_eq!(config.file(), Some(dir.path().join("pixels/config.toml").as_path()));
    let err = Config::load(Loader::default().file(dir.path())).unwrap_err();
    assert!(err.to_string().ends_with(": not a regular file"), "{err}");
    std::fs::write(&missing, b"a = 1\n\xff").unwrap();
    let err = Config::load(Loader::default().file(&missing)).unwrap_err();
    assert!(err.to_string().ends_with("no.toml:2: not UTF-8"), "{err}");
}

#[test]
fn secrets_are_in_no_output() {
    let text = "[truenas]\napi_key = \"hunter2\"\n[env]\nA = \"hunter2\"\nB = { value = \"hunter2\", session_only = true }\nC = { forward = true }\n";
    let (_, config) = load(text, &[("C", "hunter2")], &[]);
    let config = config.unwrap();
    let json = serde_json::to_string(&config.entries()).unwrap();
    let shown: Vec<_> =
        config.entries().iter().filter_map(|e| Some(e.value.as_ref()?.to_string())).collect();
    for out in [format!("{config:?}"), json, shown.join("\n")] {
        assert!(!out.contains("hunter2"), "{out}");
    }
    assert_eq!(config.truenas.api_key.as_ref().unwrap().expose(), "hunter2");
    let session = config.session_env();
    let pair = |k: &str| (k.as_bytes().to_vec(), b"hunter2".to_vec());
    assert_eq!(session, [pair("B"), pair("C")]);
    // In the wrong place, too.
    for bad in ["[truenas]\napi_key = [\"hunter2\"]", "[truenas]\nport = \"hunter2\""] {
        let (_, result) = load(bad, &[], &[]);
        assert!(!result.unwrap_err().to_string().contains("hunter2"));
    }
}
