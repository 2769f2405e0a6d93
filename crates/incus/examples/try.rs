use pixels_core::*;
use std::time::Instant;
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut s = Settings::new();
    s.insert("socket".into(), std::env::var("PIXELS_RIG_SOCKET").unwrap());
    s.insert("default_image".into(), "debian/12".into());
    s.insert("memory".into(), (1u64 << 30).to_string());
    let b = pixels_incus::Incus::new(&s).unwrap();
    let n = Name::new("try1").unwrap();
    let c = Name::new("try2").unwrap();
    let t = Instant::now();
    let _ = b.delete(&n).await;
    let _ = b.delete(&c).await;
    println!("cleaned {:?}", t.elapsed());
    macro_rules! step { ($l:literal, $e:expr) => {{ let t = Instant::now(); let r = b.requests(); let v = $e; println!("{:<12} {:>8.1?} req {} {:?}", $l, t.elapsed(), b.requests() - r, v); v }}; }
    let mut o = CreateOpts::new(n.clone());
    o.progress = Progress::new(|e| println!("   {e:?}"));
    step!("create", b.create(o).await.map_err(|e| format!("{e} {:?}", e.hint()))).unwrap();
    step!("exec", b.output(&n, &["id"]).await.map(|o| String::from_utf8_lossy(&o).into_owned())).unwrap();
    step!("exec", b.output(&n, &["uname", "-a"]).await.map(|o| String::from_utf8_lossy(&o).into_owned())).unwrap();
    let _ = step!("exec127", b.run(&n, ExecOpts::new(["nonesuch"]), RunIo::default()).await);
    let _ = step!("badcwd", b.run(&n, ExecOpts { cwd: Some(b"/nope".to_vec()), ..ExecOpts::new(["true"]) }, RunIo::default()).await.map_err(|e| e.to_string()));
    step!("snap", b.create_snapshot(&n, &Label::new("ready").unwrap()).await).unwrap();
    step!("snaps", b.list_snapshots(&n).await).unwrap();
    step!("clone", b.clone_from(&n, Some(&Label::new("ready").unwrap()), &c, CloneOpts::default()).await).unwrap();
    step!("exec", b.output(&c, &["sh", "-c", "cat /etc/machine-id /etc/hostname; cat /proc/1/environ | tr '\\0' '\\n'; ls -la /var/lib/pixels /etc/ssh; systemctl status pixels-boot | cat"]).await.map(|o| println!("{}", String::from_utf8_lossy(&o)))).ok();
    step!("ready", b.ready(&c, std::time::Duration::from_secs(20)).await).unwrap();
    step!("exec", b.output(&n, &["cat", "/etc/machine-id"]).await.map(|o| String::from_utf8_lossy(&o).into_owned())).unwrap();
    step!("exec", b.output(&c, &["sh", "-c", "systemctl status pixels-boot | cat; cat /etc/machine-id"]).await.map(|o| println!("{}", String::from_utf8_lossy(&o)))).ok();
    step!("restore", b.restore_snapshot(&n, &Label::new("ready").unwrap()).await).unwrap();
    step!("list", b.list().await).unwrap();
    step!("write", b.write_file(&n, "/root/x", b"hi", 0o600, None).await).unwrap();
    step!("read", b.read_file(&n, "/root/x", 0).await).unwrap();
    step!("ls", b.list_files(&n, "/root", true).await).unwrap();
    step!("stop", b.stop(&c, StopOpts::default()).await).unwrap();
    step!("start", b.start(&c).await).unwrap();
    step!("doctor", b.doctor(false).await);
    step!("delete", b.delete(&c).await).unwrap();
    step!("delete", b.delete(&n).await).unwrap();
    step!("sweep", b.sweep().await).unwrap();
    b.close().await.unwrap();
}
