//! The table of configuration keys. Parsing, the environment, `config show` and
//! the reference in the documentation all come from it.

use super::value::Kind;

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name with its section: `defaults.memory`.
    pub name: &'static str,
    /// What its value has to be.
    pub kind: Kind,
    /// The default, as text; `None` is unset.
    pub default: Option<&'static str>,
    /// The variables that set it; the first that is set counts.
    pub vars: &'static [&'static str],
    /// Whether its value is never shown.
    pub secret: bool,
    /// What it does, in one line.
    pub doc: &'static str,
}

const fn key(
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    vars: &'static [&'static str],
    doc: &'static str,
) -> Key {
    Key { name, kind, default, vars, secret: false, doc }
}

const fn secret(name: &'static str, vars: &'static [&'static str], doc: &'static str) -> Key {
    Key { name, kind: Kind::Text, default: None, vars, secret: true, doc }
}

/// Every key but those of `[env]` and `[mcp.bases]`, which have names of the user's own.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("backend", Kind::Backend, None, &["PIXELS_BACKEND"], "what runs the pixels; unset: incus where its socket exists or a remote is set, else local"),

    key("truenas.host", Kind::Text, None, &["PIXELS_TRUENAS_HOST"], "the TrueNAS server"),
    key("truenas.port", Kind::Port, Some("443"), &["PIXELS_TRUENAS_PORT"], "its port"),
    key("truenas.username", Kind::Text, Some("root"), &["PIXELS_TRUENAS_USERNAME"], "the user that the API key belongs to"),
    secret("truenas.api_key", &["PIXELS_TRUENAS_API_KEY"], "the API key; better in the variable than in the file"),
    key("truenas.insecure_skip_verify", Kind::Bool, Some("false"), &["PIXELS_TRUENAS_INSECURE", "PIXELS_TRUENAS_INSECURE_SKIP_VERIFY"], "accept any certificate"),

    key("incus.socket", Kind::Path, None, &["PIXELS_INCUS_SOCKET"], "the daemon's unix socket; unset: where the incus client looks for it"),
    key("incus.remote", Kind::Url, None, &["PIXELS_INCUS_REMOTE"], "a daemon to reach over HTTPS instead of the socket"),
    key("incus.client_cert", Kind::Path, None, &["PIXELS_INCUS_CLIENT_CERT"], "our certificate for the remote, PEM"),
    key("incus.client_key", Kind::Path, None, &["PIXELS_INCUS_CLIENT_KEY"], "its private key, PEM"),
    key("incus.server_cert", Kind::Path, None, &["PIXELS_INCUS_SERVER_CERT"], "the remote's certificate or the CA that signed it, PEM; unset: the system's roots"),
    key("incus.project", Kind::Text, None, &["PIXELS_INCUS_PROJECT"], "the project to work in; unset: the daemon's default"),
    key("incus.image_server", Kind::Url, Some("https://images.linuxcontainers.org"), &["PIXELS_INCUS_IMAGE_SERVER"], "the simplestreams server that images come from, also for `local`"),
    key("incus.image_server_ca", Kind::Path, None, &["PIXELS_INCUS_IMAGE_SERVER_CA"], "the CA of that server, PEM; unset: the daemon's roots, for `local` this system's"),
    key("incus.guest_binary", Kind::Path, None, &["PIXELS_INCUS_GUEST_BINARY"], "a pixels-guest to put into pixels, for those of another architecture; unset: the built-in one"),
    key("incus.hardening.isolate_idmap", Kind::Bool, Some("true"), &["PIXELS_INCUS_HARDENING_ISOLATE_IDMAP"], "give every pixel uids of its own on the host"),
    key("incus.hardening.disable_guestapi", Kind::Bool, Some("true"), &["PIXELS_INCUS_HARDENING_DISABLE_GUESTAPI"], "keep the daemon's guest API out of pixels"),
    key("incus.hardening.limit_processes", Kind::Count, Some("8192"), &["PIXELS_INCUS_HARDENING_LIMIT_PROCESSES"], "the most processes in a pixel, also of `local`; 0: no limit"),
    key("incus.hardening.hard_memory_limit", Kind::Bool, Some("true"), &["PIXELS_INCUS_HARDENING_HARD_MEMORY_LIMIT"], "never let a pixel use more than its memory, even where the host has some to spare"),

    key("local.root", Kind::Path, None, &["PIXELS_LOCAL_ROOT"], "where the local backend keeps images and pixels; unset: /var/lib/pixels/engine for root, else pixels/engine in $XDG_DATA_HOME or ~/.local/share"),
    key("local.subnet", Kind::Subnet, Some("10.209.0.0/16"), &["PIXELS_LOCAL_SUBNET"], "where its pixels' addresses come from: a private network that this host does not use"),
    key("local.no_new_privs", Kind::Bool, Some("false"), &["PIXELS_LOCAL_NO_NEW_PRIVS"], "let setuid programs in its pixels gain nothing; sudo does not work then"),

    key("defaults.image", Kind::Text, Some("ubuntu/24.04"), &["PIXELS_DEFAULT_IMAGE", "PIXELS_DEFAULTS_IMAGE"], "the image of new pixels"),
    key("defaults.cpu", Kind::Cpu, Some("2"), &["PIXELS_DEFAULT_CPU", "PIXELS_DEFAULTS_CPU"], "their CPUs: a number or a set"),
    key("defaults.memory", Kind::Size, Some("2048"), &["PIXELS_DEFAULT_MEMORY", "PIXELS_DEFAULTS_MEMORY"], "their memory in MiB, or with a suffix"),
    key("defaults.disk", Kind::Size, None, &["PIXELS_DEFAULT_DISK", "PIXELS_DEFAULTS_DISK"], "their root disk in MiB, or with a suffix; unset: the backend's default, which is no limit for `local`"),
    key("defaults.pool", Kind::Text, None, &["PIXELS_DEFAULT_POOL", "PIXELS_DEFAULTS_POOL"], "the pool of their root disk; unset: the default profile's"),
    key("defaults.dns", Kind::Addresses, None, &["PIXELS_DEFAULT_DNS", "PIXELS_DEFAULTS_DNS"], "name servers of unrestricted pixels"),
    key("defaults.network", Kind::Text, None, &["PIXELS_DEFAULT_NETWORK", "PIXELS_DEFAULTS_NETWORK"], "the managed network that they are on; unset: the default profile's. For `local` unset, or none: no network but loopback"),
    key("defaults.nic_type", Kind::Text, None, &["PIXELS_DEFAULT_NIC_TYPE", "PIXELS_DEFAULTS_NIC_TYPE"], "how they are attached to `parent`: bridged, macvlan, …"),
    key("defaults.parent", Kind::Text, None, &["PIXELS_DEFAULT_PARENT", "PIXELS_DEFAULTS_PARENT"], "the host interface to attach them to"),

    key("ssh.user", Kind::Text, Some("pixel"), &["PIXELS_SSH_USER"], "the user that commands run as, where the pixel has it"),
    key("ssh.key", Kind::Path, Some("~/.ssh/id_ed25519"), &["PIXELS_SSH_KEY"], "the private key for SSH"),
    key("ssh.strict_host_keys", Kind::Bool, Some("true"), &["PIXELS_SSH_STRICT_HOST_KEYS"], "refuse a pixel whose SSH host key has changed"),

    key("checkpoint.dataset_prefix", Kind::Text, None, &["PIXELS_CHECKPOINT_DATASET_PREFIX"], "where the datasets of pixels are on TrueNAS; unset: found"),

    key("provision.enabled", Kind::Bool, Some("true"), &["PIXELS_PROVISION_ENABLED"], "make an agent's machine of new pixels"),
    key("provision.devtools", Kind::Devtools, Some("true"), &["PIXELS_PROVISION_DEVTOOLS"], "the tools to install: true is all of them"),
    key("provision.ca_certs", Kind::Paths, None, &["PIXELS_PROVISION_CA_CERTS"], "CA certificates that pixels are to trust, PEM"),
    key("provision.script", Kind::Path, None, &["PIXELS_PROVISION_SCRIPT"], "a script to run in new pixels, as root"),

    key("network.egress", Kind::Egress, Some("unrestricted"), &["PIXELS_NETWORK_EGRESS"], "the egress mode of pixels made from images"),
    key("network.allow", Kind::Domains, None, &["PIXELS_NETWORK_ALLOW"], "further domains for the restricted modes"),
    key("network.resolvers", Kind::Addresses, None, &["PIXELS_NETWORK_RESOLVERS"], "the name servers that the egress process asks; unset: the host's"),

    key("mcp.prefix", Kind::Prefix, Some("mcp-"), &["PIXELS_MCP_PREFIX"], "how the names of the MCP server's pixels begin"),
    key("mcp.base_prefix", Kind::Prefix, Some("base-"), &["PIXELS_MCP_BASE_PREFIX"], "how the names of bases begin"),
    key("mcp.default_image", Kind::Text, None, &["PIXELS_MCP_DEFAULT_IMAGE"], "the image of the MCP server's pixels; unset: defaults.image"),
    key("mcp.listen_addr", Kind::Listen, Some("127.0.0.1:8765"), &["PIXELS_MCP_LISTEN_ADDR"], "where the MCP server listens"),
    key("mcp.endpoint_path", Kind::Endpoint, Some("/mcp"), &["PIXELS_MCP_ENDPOINT_PATH"], "the path of its endpoint"),
    key("mcp.idle_stop_after", Kind::Duration, Some("1h"), &["PIXELS_MCP_IDLE_STOP_AFTER"], "stop its pixels after this long without a call"),
    key("mcp.hard_destroy_after", Kind::Duration, Some("24h"), &["PIXELS_MCP_HARD_DESTROY_AFTER"], "destroy its pixels at this age"),
    key("mcp.reap_interval", Kind::Duration, Some("1m"), &["PIXELS_MCP_REAP_INTERVAL"], "how often it looks for those"),
    key("mcp.exec_timeout_max", Kind::Duration, Some("10m"), &["PIXELS_MCP_EXEC_TIMEOUT_MAX"], "the longest a call may let a command run"),
    key("mcp.state_file", Kind::Path, Some("~/.cache/pixels/mcp-state.json"), &["PIXELS_MCP_STATE_FILE"], "what it remembers across restarts and could rebuild"),
    key("mcp.pid_file", Kind::Path, Some("~/.cache/pixels/mcp.pid"), &["PIXELS_MCP_PID_FILE"], "its process id, and the lock that keeps a second one out"),
];

/// The keys as a Markdown table: name, value, default, variable, meaning.
pub fn reference() -> String {
    let mut out = String::from(
        "| key | value | default | variable | meaning |\n| --- | --- | --- | --- | --- |\n",
    );
    for key in KEYS {
        let default = key.default.map_or_else(|| "unset".to_owned(), |d| format!("`{d}`"));
        let var = key.vars.first().copied().unwrap_or_default();
        let (name, words, doc) = (key.name, key.kind.words(), key.doc);
        out.push_str(&format!("| `{name}` | {words} | {default} | `{var}` | {doc} |\n"));
    }
    out
}

/// The sections that keys live in, and those of the user's own names.
pub(super) fn is_section(path: &str) -> bool {
    path == "env"
        || path == "mcp.bases"
        || KEYS.iter().any(|k| k.name.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// A key's place in [`KEYS`].
pub(super) fn index(name: &str) -> Option<usize> {
    KEYS.iter().position(|k| k.name == name)
}
