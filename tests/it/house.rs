//! The house checks itself: who may import whom, that texts made from code are up to date.
//!
//! A rule that is broken is said with its remedy. `UPDATE=1 cargo test --test it house` rewrites what is made.

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Room, what it may use from the crate, and foreign crates that appear in no other room than those named with them.
const ROOMS: [(&str, &[&str]); 7] = [
    ("model", &["model", "error"]),
    ("syntax", &["syntax", "model", "error"]),
    ("engine", &["engine", "model", "error", "clock", "steps", "tasks", "telemetry"]),
    ("query", &["query", "engine", "model", "syntax", "error", "telemetry", "clock", "tasks"]),
    ("server", &["server", "query", "engine", "model", "syntax", "config", "error", "clock", "tasks", "telemetry"]),
    ("config", &["config", "engine", "error", "telemetry", "model"]),
    ("cli", &["cli", "config", "server", "query", "engine", "model", "error", "clock", "steps", "telemetry"]),
];

/// A foreign crate and the rooms that may name it.
const FOREIGN: [(&str, &[&str]); 9] = [
    ("datafusion", &["query"]),
    ("datafusion_substrait", &["query"]),
    ("parquet", &["engine", "query", "server", "cli"]),
    ("object_store", &["engine", "query", "cli"]),
    ("prost", &["engine", "query", "server"]),
    ("tonic", &["server", "cli"]),
    ("arrow_flight", &["server", "cli"]),
    ("axum", &["server"]),
    ("clap", &["config", "cli"]),
];

fn source_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(source_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Lines of code: without comments, and without what follows the start of the tests.
fn code_lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let is_test_file = path.file_name().is_some_and(|name| name == "tests.rs") || text.contains("#![cfg(test)]");
    let lines =
        text.lines().take_while(|line| line.trim() != "#[cfg(test)]" || text.contains("#[cfg(test)]\nmod tests;"));
    if is_test_file {
        return Vec::new();
    }
    lines.filter(|line| !line.trim_start().starts_with("//")).map(str::to_owned).collect()
}

/// The words that stand before `::` right after `crate::`, or that begin a path to a foreign crate.
fn names_used<'a>(line: &'a str, prefix: &str) -> Vec<&'a str> {
    line.match_indices(prefix)
        .map(|(place, _)| &line[place + prefix.len()..])
        .map(|rest| rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next().unwrap_or_default())
        .collect()
}

#[test]
fn imports_go_one_way() {
    let mut broken = Vec::new();
    for (room, allowed) in ROOMS {
        for path in source_files(&Path::new(ROOT).join("src").join(room)) {
            for line in code_lines(&path) {
                for used in names_used(&line, "crate::") {
                    if !used.is_empty() && !allowed.contains(&used) {
                        broken.push(format!(
                            "{}: `{room}` may not use `crate::{used}`: {}",
                            path.display(),
                            line.trim()
                        ));
                    }
                }
                for (foreign, rooms) in FOREIGN {
                    let names_it = line.trim_start().starts_with(&format!("use {foreign}::"))
                        || line.contains(&format!(" {foreign}::"));
                    if names_it && !line.contains(&format!("crate::{foreign}")) && !rooms.contains(&room) {
                        broken.push(format!("{}: only {rooms:?} may use `{foreign}`: {}", path.display(), line.trim()));
                    }
                }
            }
        }
    }
    assert!(broken.is_empty(), "hand the value in, or move the code to the room that may:\n{}", broken.join("\n"));
}

#[test]
fn every_module_opens_with_its_story() {
    let silent: Vec<_> = source_files(&Path::new(ROOT).join("src"))
        .into_iter()
        .filter(|path| !path.iter().any(|part| part == "tests.rs" || part == "tests" || part == "proto.rs"))
        .filter(|path| !fs::read_to_string(path).unwrap().starts_with("//!"))
        .collect();
    assert!(silent.is_empty(), "begin these with `//!`: what lives there, what holds, what is not there: {silent:?}");
}

#[test]
fn only_one_file_names_an_environment_variable_of_ours() {
    for path in source_files(&Path::new(ROOT).join("src")) {
        if path.components().any(|part| part.as_os_str() == "config") {
            continue;
        }
        let is_test = path.iter().any(|part| part == "tests.rs" || part == "tests");
        for line in code_lines(&path).into_iter().filter(|_| !is_test) {
            assert!(!line.contains("env::var"), "{}: settings come from `config`: {line}", path.display());
        }
    }
}

#[test]
fn generated_code_is_what_the_proto_files_say() {
    let out = generated("proto", &["flightline/ticket/v1/ticket.proto"], tonic_prost_build::configure());
    check_or_update("src/server/proto.rs", &made(&out, "flightline.ticket.v1.rs"));

    let files = ["algebra", "extended_expression", "extensions/extensions", "plan", "type"];
    let files = files.map(|file| format!("substrait/{file}.proto"));
    let without_comments = tonic_prost_build::configure()
        .compile_well_known_types(true)
        .extern_path(".google.protobuf", "::pbjson_types")
        .disable_comments(["."]);
    let out = generated("proto/substrait/proto", &files.each_ref().map(String::as_str), without_comments);
    for package in ["substrait", "substrait.extensions"] {
        let (file, code) = (format!("proto/substrait/src/proto.{package}.rs"), made(&out, &format!("{package}.rs")));
        check_or_update(&file, &code);
    }
}

/// A folder with the code that `files` below `folder` make.
fn generated(folder: &str, files: &[&str], builder: tonic_prost_build::Builder) -> tempfile::TempDir {
    let folder = Path::new(ROOT).join(folder);
    let descriptors = protox::compile(files.iter().map(|file| folder.join(file)), [&folder]).unwrap();
    let out = tempfile::tempdir().unwrap();
    builder.build_client(false).build_server(false).out_dir(out.path()).compile_fds(descriptors).unwrap();
    out
}

fn made(out: &tempfile::TempDir, file: &str) -> String {
    fs::read_to_string(out.path().join(file)).unwrap()
}

#[test]
fn the_readme_lists_every_setting() {
    let (start, end) = ("<!-- settings -->\n", "<!-- end of settings -->");
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let (head, rest) = readme.split_once(start).expect("README.md has a place for the settings");
    let (_, tail) = rest.split_once(end).expect("README.md ends the place for the settings");
    check_or_update("README.md", &format!("{head}{start}{}{end}{tail}", flightline::config::settings_table()));
}

fn check_or_update(path: &str, expected: &str) {
    let path = Path::new(ROOT).join(path);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap();
    assert!(found == expected, "{} is out of date: UPDATE=1 cargo test --test it house", path.display());
}
