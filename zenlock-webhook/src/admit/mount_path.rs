//! Where files may appear: folders of their own, never over files of the system.

use zen_model::reason::LockRefusal;

use super::Refused;

/// Nothing may be mounted here or beneath.
const CLOSED: [&str; 16] = [
    "/bin",
    "/boot",
    "/dev",
    "/lib",
    "/lib32",
    "/lib64",
    "/proc",
    "/sbin",
    "/sys",
    "/usr",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/etc/pam.d",
    "/run/secrets/kubernetes.io",
    "/var/run/secrets/kubernetes.io",
];
/// Folders that programs share: beneath them, and not over them.
const SHARED: [&str; 17] = [
    "/",
    "/etc",
    "/home",
    "/media",
    "/mnt",
    "/opt",
    "/root",
    "/run",
    "/run/secrets",
    "/srv",
    "/tmp",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/run",
    "/var/run/secrets",
];
/// Kubernetes takes more; nobody needs more.
const LONGEST: usize = 256;

/// Whether files may be mounted at this path.
pub(super) fn check(path: &str) -> Result<(), Refused> {
    let unsafe_path = |why: &str| Err(Refused::new(LockRefusal::MountPathUnsafe, format!("the mount path {why}")));
    if path.len() > LONGEST {
        return unsafe_path(&format!("is longer than {LONGEST} characters"));
    }
    if !path.bytes().all(|b| b.is_ascii_graphic() && !b":\\$\"'`".contains(&b)) {
        return unsafe_path("holds characters other than letters, digits and the usual signs of a path");
    }
    if !path.starts_with('/') {
        return unsafe_path(&format!("{path} is not absolute"));
    }
    if path != "/" && path[1..].split('/').any(|part| matches!(part, "" | "." | "..")) {
        return unsafe_path(&format!("{path} is not normalised"));
    }
    if SHARED.contains(&path) || CLOSED.iter().any(|closed| is_within(path, closed)) {
        return unsafe_path(&format!("{path} belongs to the system"));
    }
    Ok(())
}

/// Whether `path` is `folder` or lies beneath it.
pub(super) fn is_within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Z-04: unsafe mount paths.
    #[test]
    fn folders_of_their_own_and_nothing_else() {
        for path in
            ["/var/run/zen", "/run/zen", "/etc/zen", "/app/secrets", "/secrets", "/var/run/secrets/zen", "/library"]
        {
            assert_eq!(check(path), Ok(()), "{path}");
        }
        let long = format!("/{}", "a".repeat(256));
        for path in [
            "",
            ".",
            "zen",
            "./zen",
            "../zen",
            "/",
            "//",
            "/zen/",
            "/zen//a",
            "/zen/./a",
            "/zen/../etc",
            "/..",
            "/etc",
            "/etc/ssl/certs",
            "/proc/1",
            "/dev",
            "/dev/shm",
            "/sys/fs",
            "/usr/local/share",
            "/bin",
            "/lib64",
            "/tmp",
            "/var/run",
            "/root",
            "/var/run/secrets/kubernetes.io/serviceaccount",
            "/zen:ro",
            "/zen\n",
            "/zen a",
            "C:\\zen",
            "/z\u{e9}n",
            &long,
        ] {
            let refused = check(path).expect_err(path);
            assert_eq!(refused.reason, LockRefusal::MountPathUnsafe, "{path}");
        }
    }

    #[test]
    fn beneath_is_by_whole_names() {
        assert!(is_within("/a/b", "/a") && is_within("/a", "/a") && is_within("/a", "/"));
        assert!(!is_within("/ab", "/a") && !is_within("/a", "/a/b"));
    }
}
