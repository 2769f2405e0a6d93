//! The daemon's own view, over its socket and past the program: what is left there.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use serde_json::Value;

use crate::harness::{PATIENCE, World};

/// One request. HTTP/1.0: the daemon closes after its answer.
pub fn rest(world: &World, method: &str, path: &str, body: &Value) -> Value {
    let mut stream = UnixStream::connect(world.rig().socket().unwrap()).unwrap();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, json) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{path}: {answer:?}"));
    serde_json::from_str(json).unwrap_or_else(|e| panic!("{path}: {e} in {json:?}"))
}

/// The metadata of a GET.
pub fn get(world: &World, path: &str) -> Value {
    rest(world, "GET", path, &Value::Null)["metadata"].take()
}

/// Everything of this world's that the daemon has: instances and snapshots of
/// all projects, volumes of all pools, and operations under way.
pub fn left(world: &World) -> Vec<String> {
    let mut found = Vec::new();
    let mut keep = |list: &Value| {
        for item in list.as_array().into_iter().flatten().filter_map(Value::as_str) {
            if item.contains(world.prefix()) {
                found.push(item.to_owned());
            }
        }
    };
    keep(&get(world, "/1.0/instances?all-projects=true"));
    let pools = get(world, "/1.0/storage-pools");
    for pool in pools.as_array().into_iter().flatten().filter_map(Value::as_str) {
        keep(&get(world, &format!("{pool}/volumes?all-projects=true")));
    }
    let operations = get(world, "/1.0/operations?recursion=1&all-projects=true");
    for operation in operations.as_object().into_iter().flat_map(|groups| groups.values()) {
        for operation in operation.as_array().into_iter().flatten() {
            let under_way = operation["status_code"].as_u64().is_some_and(|code| code < 200);
            if under_way && operation.to_string().contains(world.prefix()) {
                found.push(format!("operation {}", operation["description"]));
            }
        }
    }
    found.sort();
    found
}

/// That nothing of this world's is left.
#[track_caller]
pub fn nothing_left(world: &World) {
    assert_eq!(left(world), [""; 0], "left behind");
}

/// How many of the daemon's images came from `server`.
pub fn images_from(world: &World, server: &str) -> usize {
    let all = get(world, "/1.0/images?recursion=1");
    let theirs = |image: &&Value| {
        let from = image["update_source"]["server"].as_str().unwrap_or_default();
        from.trim_end_matches('/') == server.trim_end_matches('/')
    };
    all.as_array().unwrap().iter().filter(theirs).count()
}

/// Waits until the daemon has an instance for the pixel. There is no event that
/// comes before a quick create is over, so it is asked again and again.
pub fn until_instance(world: &World, pixel: &str) {
    let begun = Instant::now();
    let path = format!("/1.0/instances/px-{pixel}");
    while get(world, &path)["name"].is_null() {
        assert!(begun.elapsed() < PATIENCE, "{pixel} never appeared");
    }
}
