//! What the machine gives this process: memory (within its control group), processors, a host name.
//!
//! Read once at start, for the defaults. Files are read through a function, so that tests describe a machine as
//! the files it shows.

use std::path::{Path, PathBuf};

/// Memory that is assumed where the system does not say: small enough that a quarter of it harms nobody.
const MEMORY_BYTES_UNKNOWN: u64 = 4 << 30;

/// The machine as this process may use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Bytes of memory: of the hardware, or of the tightest control group around this process.
    pub memory_bytes: u64,
    /// Processors, at least 1; quotas of control groups count.
    pub processors: usize,
    /// The host's name, if the system has one.
    pub host: Option<String>,
}

impl Machine {
    /// Looks at the machine this runs on.
    pub fn detect() -> Self {
        let read = |path: &Path| std::fs::read_to_string(path).ok();
        Self {
            memory_bytes: memory_bytes(&read),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            host: host(&read),
        }
    }
}

type Read<'a> = &'a dyn Fn(&Path) -> Option<String>;

fn memory_bytes(read: Read<'_>) -> u64 {
    let hardware = read(Path::new("/proc/meminfo")).and_then(|text| total_bytes(&text));
    hardware.into_iter().chain(group_limits(read)).min().unwrap_or(MEMORY_BYTES_UNKNOWN)
}

/// `MemTotal:  16316412 kB` of `/proc/meminfo`.
fn total_bytes(meminfo: &str) -> Option<u64> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The limits of all control groups around this process, of version 2 and 1.
fn group_limits(read: Read<'_>) -> Vec<u64> {
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let mut limits = Vec::new();
    for line in groups.lines() {
        // "0::/system.slice/x.service" is version 2, "9:memory:/docker/4f…" the memory controller of version 1.
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            names if names.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        limits.extend(limits_upwards(read, root, group, file));
    }
    limits
}

/// A group is also bound by the groups above it. Inside a container the group's own path is often not mounted,
/// only the root is, which then is the container's group: so missing files are skipped.
fn limits_upwards(read: Read<'_>, root: &str, group: &str, file: &str) -> Vec<u64> {
    let own: PathBuf = Path::new(root).join(group.trim_start_matches('/'));
    own.ancestors()
        .take_while(|directory| directory.starts_with(root))
        .filter_map(|directory| read(&directory.join(file)))
        // "max" is no limit.
        .filter_map(|text| text.trim().parse().ok())
        .collect()
}

fn host(read: Read<'_>) -> Option<String> {
    let name = read(Path::new("/proc/sys/kernel/hostname")).or_else(|| read(Path::new("/etc/hostname")))?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn memory(files: &[(&str, &str)]) -> u64 {
        memory_bytes(&|path| files.iter().find(|(name, _)| path == Path::new(name)).map(|(_, text)| (*text).to_owned()))
    }

    const MEMINFO: (&str, &str) = ("/proc/meminfo", "MemTotal:       16777216 kB\nMemFree:        1 kB\n");

    #[test]
    fn without_a_control_group_memory_is_what_the_hardware_has() {
        assert_eq!(memory(&[MEMINFO]), 16 * GIB);
        let unlimited = [MEMINFO, ("/proc/self/cgroup", "0::/\n"), ("/sys/fs/cgroup/memory.max", "max\n")];
        assert_eq!(memory(&unlimited), 16 * GIB);
    }

    #[test]
    fn the_tightest_control_group_counts() {
        let nested = [
            MEMINFO,
            ("/proc/self/cgroup", "0::/outer/inner\n"),
            ("/sys/fs/cgroup/outer/inner/memory.max", "4294967296\n"),
            ("/sys/fs/cgroup/outer/memory.max", "2147483648\n"),
        ];
        assert_eq!(memory(&nested), 2 * GIB);
    }

    #[test]
    fn inside_a_container_the_mounted_root_is_its_group() {
        let container =
            [MEMINFO, ("/proc/self/cgroup", "0::/docker/4f1c\n"), ("/sys/fs/cgroup/memory.max", "1073741824\n")];
        assert_eq!(memory(&container), GIB);
    }

    #[test]
    fn version_1_of_control_groups_counts_too() {
        let files = [
            MEMINFO,
            ("/proc/self/cgroup", "4:cpu:/docker/4f1c\n3:hugetlb,memory:/docker/4f1c\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "3221225472\n"),
        ];
        assert_eq!(memory(&files), 3 * GIB);
        let unlimited = [MEMINFO, files[1], ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")];
        assert_eq!(memory(&unlimited), 16 * GIB);
    }

    #[test]
    fn a_system_that_says_nothing_is_taken_for_a_small_one() {
        assert_eq!(memory(&[]), MEMORY_BYTES_UNKNOWN);
        assert_eq!(memory(&[("/proc/meminfo", "garbage")]), MEMORY_BYTES_UNKNOWN);
    }
}
