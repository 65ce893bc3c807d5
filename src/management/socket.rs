//! The management socket: the pages of the management address for whoever may open a file, and what changes something.
//!
//! The file appears in one rename, with its mode, so that nobody finds it half made; one that a dead process has left is replaced
//! the same way.

use std::{
    fs, io,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use tokio::net::UnixListener;

/// Owner and group.
const MODE: u32 = 0o660;
const FILE: &str = "management.sock";

/// Where the socket is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub path: PathBuf,
    /// Somebody has named it: that it cannot be there is an error.
    pub is_named: bool,
}

impl Place {
    /// What was named, or in the runtime directory that the service manager gives, or in the usual one.
    pub fn new(named: Option<PathBuf>, runtime_directory: Option<&str>) -> Self {
        if let Some(path) = named.filter(|path| !path.as_os_str().is_empty()) {
            return Self { path, is_named: true };
        }
        let given = runtime_directory.and_then(|list| list.split(':').find(|directory| !directory.is_empty()));
        Self { path: Path::new(given.unwrap_or("/run/ringway")).join(FILE), is_named: false }
    }

    pub fn of_process(named: Option<PathBuf>) -> Self {
        Self::new(named, std::env::var("RUNTIME_DIRECTORY").ok().as_deref())
    }
}

/// A socket that listens; its file goes when this is dropped.
pub struct Socket {
    pub listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Socket {
    /// Inside a runtime.
    ///
    /// # Errors
    /// `AddrInUse`: another process listens there; or the file cannot be made.
    pub fn open(place: &Place) -> io::Result<Self> {
        let path = &place.path;
        if UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"));
        }
        if let Some(folder) = path.parent().filter(|_| !place.is_named) {
            fs::create_dir_all(folder)?;
        }
        if fs::symlink_metadata(path).is_ok_and(|found| !is_socket(&found)) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        let coming = path.with_extension(format!("{}.tmp", std::process::id()));
        let _ = fs::remove_file(&coming);
        let listener = UnixListener::bind(&coming)?;
        let made = fs::set_permissions(&coming, fs::Permissions::from_mode(MODE))
            .and_then(|()| fs::metadata(&coming))
            .and_then(|made| fs::rename(&coming, path).map(|()| made.ino()));
        match made {
            Ok(inode) => Ok(Self { listener, path: path.clone(), inode }),
            Err(error) => {
                let _ = fs::remove_file(&coming);
                Err(error)
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Another one may have taken its place.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn is_socket(found: &fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    found.file_type().is_socket()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_the_named_one_or_the_service_managers_or_the_usual() {
        let named = Place { path: "/x/y.sock".into(), is_named: true };
        assert_eq!(Place::new(Some("/x/y.sock".into()), Some("/run/other")), named);
        let usual = |path: &str| Place { path: path.into(), is_named: false };
        assert_eq!(Place::new(None, Some("/run/a:/run/b")), usual("/run/a/management.sock"));
        assert_eq!(Place::new(Some("".into()), Some("")), usual("/run/ringway/management.sock"));
        assert_eq!(Place::new(None, None), usual("/run/ringway/management.sock"));
    }

    #[tokio::test]
    async fn a_dead_ones_file_is_replaced_and_a_live_ones_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.sock");
        let place = Place { path: path.clone(), is_named: true };
        let mode = || fs::metadata(&path).expect("it is there").permissions().mode() & 0o777;
        // A listener whose file stays behind.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
        let first = Socket::open(&place).expect("nobody listens");
        assert_eq!(mode(), MODE);
        let error = Socket::open(&place).err().expect("somebody listens");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(UnixStream::connect(&path).is_ok(), "the first one is untouched");
        drop(first);
        assert!(!path.exists() && fs::read_dir(folder.path()).expect("a folder").next().is_none());
        fs::write(&path, "a note").expect("it can be written");
        assert!(Socket::open(&place).is_err());
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "a note");
        assert!(Socket::open(&Place { path: folder.path().join("none/m.sock"), is_named: true }).is_err());
        let made = Place { path: folder.path().join("made/m.sock"), is_named: false };
        assert!(Socket::open(&made).is_ok());
    }
}
