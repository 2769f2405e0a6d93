//! Builds the static guest binary for the feature `embed`; otherwise nothing.
//!
//! `PIXELS_GUEST_BIN` at build time names a ready-made binary instead. Without
//! it a nested cargo builds `crates/pixels-guest`, which depends on this crate
//! without `embed`, so there is no cycle; its target directory lies in
//! `OUT_DIR`, so there is no lock to wait for.

fn main() {
    #[cfg(feature = "embed")]
    embed::run();
    #[cfg(not(feature = "embed"))]
    println!("cargo::rerun-if-changed=build.rs");
}

#[cfg(feature = "embed")]
mod embed {
    use std::env;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use sha2::{Digest, Sha256};

    pub(crate) fn run() {
        println!("cargo::rerun-if-changed=build.rs");
        println!("cargo::rerun-if-env-changed=PIXELS_GUEST_BIN");
        let out_dir = PathBuf::from(var("OUT_DIR"));
        let bytes = match env::var_os("PIXELS_GUEST_BIN").filter(|v| !v.is_empty()) {
            Some(path) => {
                println!("cargo::rerun-if-changed={}", Path::new(&path).display());
                read(Path::new(&path))
            }
            None => match guest_target() {
                Some(target) => read(&build(&target, &out_dir)),
                None => Vec::new(),
            },
        };
        let hash: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        let out = out_dir.join("pixels-guest");
        if let Err(e) = fs::write(&out, &bytes) {
            fail(&format!("cannot write {}: {e}", out.display()));
        }
        println!("cargo::rustc-env=PIXELS_GUEST_SHA256={hash}");
    }

    /// The guest's target triple: the host's architecture, always glibc and
    /// static, so that it also serves hosts built against musl.
    fn guest_target() -> Option<String> {
        let arch = var("CARGO_CFG_TARGET_ARCH");
        let known = matches!(arch.as_str(), "x86_64" | "aarch64");
        (var("CARGO_CFG_TARGET_OS") == "linux" && known)
            .then(|| format!("{arch}-unknown-linux-gnu"))
    }

    fn build(target: &str, out_dir: &Path) -> PathBuf {
        let here = PathBuf::from(var("CARGO_MANIFEST_DIR"));
        let guest = here.join("../pixels-guest");
        let root = here.join("../..");
        for path in [
            guest.join("src"),
            guest.join("Cargo.toml"),
            here.join("src"),
            here.join("Cargo.toml"),
            root.join("Cargo.lock"),
        ] {
            println!("cargo::rerun-if-changed={}", path.display());
        }
        let target_dir = out_dir.join("guest-target");
        let mut cargo = Command::new(var("CARGO"));
        // The outer build's flags, wrappers (clippy's, for one) and profile are
        // not the guest's; where crates come from and which toolchain is used are.
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            let ours = text.starts_with("CARGO") || text.starts_with("RUST");
            let keep = ["CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"].contains(&&*text)
                || ["CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_"]
                    .iter()
                    .any(|p| text.starts_with(p));
            if ours && !keep {
                cargo.env_remove(&name);
            }
        }
        // Panic messages carry source paths: keep this machine's out of them,
        // and the hash equal wherever the same sources are built.
        let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
        if let Ok(root) = root.canonicalize() {
            flags.push(format!("--remap-path-prefix={}=pixels", root.display()));
        }
        if let Some(home) = env::var_os("CARGO_HOME") {
            let home = Path::new(&home).display();
            flags.push(format!("--remap-path-prefix={home}=cargo"));
        }
        cargo
            .args(["build", "--release", "--locked", "--quiet"])
            .args(["--package", "pixels-guest", "--bin", "pixels-guest"])
            .args(["--target", target])
            .arg("--manifest-path")
            .arg(guest.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(&target_dir)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s")
            .env("CARGO_PROFILE_RELEASE_LTO", "fat")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
            .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
            .env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
        match cargo.status() {
            Ok(status) if status.success() => {}
            Ok(status) => {
                fail(&format!("building the guest binary for {target} failed ({status})"))
            }
            Err(e) => fail(&format!("cannot run cargo for the guest binary: {e}")),
        }
        target_dir.join(target).join("release").join("pixels-guest")
    }

    fn read(path: &Path) -> Vec<u8> {
        match fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) => fail(&format!("cannot read {}: {e}", path.display())),
        }
    }

    fn var(name: &str) -> String {
        match env::var(name) {
            Ok(value) => value,
            Err(_) => fail(&format!("{name} is not set; this is a cargo build script")),
        }
    }

    fn fail(message: &str) -> ! {
        println!("cargo::error={message}");
        println!(
            "cargo::error=hint: set PIXELS_GUEST_BIN to a static pixels-guest binary, or install \
             the Rust target and the static C library (Debian: libc6-dev, Fedora: glibc-static)"
        );
        std::process::exit(1);
    }
}
