//! A full disk refuses writes with 503, keeps what it acknowledged, and heals by itself.
//!
//! The disk is a real one: a small tmpfs that this test mounts, which needs root, as CI has it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::harness::process::ServerProcess;

/// A mounted tmpfs; gone when dropped.
pub struct SmallDisk {
    mount_point: tempfile::TempDir,
}

impl SmallDisk {
    pub fn mount(bytes: usize) -> Self {
        let mount_point = tempfile::tempdir().unwrap();
        let options = format!("size={bytes}");
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(mount_point.path()).status();
        assert!(status.unwrap().success(), "this test mounts a tmpfs and has to run as root");
        Self { mount_point }
    }

    pub fn path(&self) -> &Path {
        self.mount_point.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.mount_point.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

#[test]
fn a_full_disk_refuses_keeps_and_heals() {
    let disk = SmallDisk::mount(8 << 20);
    let server = ServerProcess::start(disk.path(), &["--wal-segment-bytes", "262144", "--persist-age", "1h"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
    let write = |number: u64| {
        let note = "x".repeat(20_000);
        let line = format!("log,n=n{number} number={number}i,note=\"{note}\" {}", number + 1);
        let request = client.post(server.url("/api/v3/write_lp?db=db&precision=ns")).body(line);
        runtime.block_on(async {
            let response = request.send().await.unwrap();
            (response.status().as_u16(), response.headers().contains_key("retry-after"))
        })
    };
    let count = |server: &ServerProcess| -> u64 {
        let body = serde_json::json!({ "db": "db", "q": "SELECT count(*) AS n FROM log", "format": "csv" });
        runtime.block_on(async {
            let response = client.post(server.url("/api/v3/query_sql")).json(&body).send().await.unwrap();
            let text = response.text().await.unwrap();
            text.lines().nth(1).unwrap_or_else(|| panic!("{text}")).parse().unwrap()
        })
    };

    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![1; 5 << 20]).unwrap();
    let mut acknowledged = 0;
    let refused = loop {
        match write(acknowledged) {
            (204, _) => acknowledged += 1,
            refused => break refused,
        }
        assert!(acknowledged < 1000, "8 MiB are full at some time");
    };
    assert_eq!(refused, (503, true), "the client is asked to come back");
    assert_eq!(write(acknowledged), (503, true), "and again");
    assert_eq!(count(&server), acknowledged, "what was acknowledged can be read while the disk is full");

    std::fs::remove_file(&ballast).unwrap();
    assert_eq!(write(acknowledged).0, 204, "there is room again and nobody had to do anything");
    acknowledged += 1;
    assert_eq!(count(&server), acknowledged);

    server.kill();
    let server = ServerProcess::start(disk.path(), &[]);
    assert_eq!(count(&server), acknowledged, "after a crash too");
}
