//! The pure rooms stay pure, and imports point one way.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms that may know neither AWS, nor a clock, nor the environment, nor waiting.
const PURE: [&str; 22] = [
    "pattern",
    "line",
    "cron",
    "job",
    "silence",
    "snapshot",
    "health",
    "state",
    "history",
    "due",
    "condition",
    "cause",
    "judge",
    "incident",
    "remedy",
    "decide",
    "plan",
    "jobs",
    "message",
    "metrics",
    "report",
    "cost",
];

/// What a pure room must not hold, and what it is a sign of.
const IMPURE: [(&str, &str); 9] = [
    ("aws_sdk", "AWS"),
    ("aws_config", "AWS"),
    ("tokio", "waiting"),
    ("async ", "waiting"),
    (".await", "waiting"),
    ("std::env", "the environment"),
    ("SystemTime", "a clock"),
    ("Timestamp::now", "a clock"),
    ("std::fs", "files"),
];

/// Rooms that only the shells and the pass may look into.
const RIM: [&str; 6] = [
    "crate::aws",
    "crate::http",
    "crate::local",
    "crate::pass",
    "crate::world",
    "crate::replay",
];

fn files(of: &str) -> Vec<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = vec![source.join(format!("{of}.rs"))];
    let mut folders = vec![source.join(of)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// The code of a file without its tests and comments.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    (code.lines())
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn pure_rooms_are_pure() {
    for room in PURE {
        for file in files(room) {
            let is_test = file.file_stem().is_some_and(|stem| stem == "tests");
            if is_test {
                continue;
            }
            let code = code(&file);
            for (sign, of) in IMPURE {
                assert!(
                    !code.contains(sign),
                    "{}: {sign} brings in {of}",
                    file.display()
                );
            }
            let shell = room == "metrics" || room == "report";
            for rim in RIM {
                let allowed = shell && rim == "crate::pass";
                assert!(
                    allowed || !code.contains(rim),
                    "{}: looks into {rim}",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn every_room_is_on_the_map() {
    let map = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let rooms: Vec<&str> = (map.lines())
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    assert!(rooms.len() > PURE.len());
    for room in rooms {
        let named = [format!("[`{room}`]"), format!("[`mod@{room}`]")];
        assert!(
            named.iter().any(|name| map.contains(name)),
            "{room} is not on the map"
        );
    }
}
