//! Says when the configuration on disk has become another one.
//!
//! Events only wake it up; what decides is a fingerprint of the files (modification and change time, size, inode). So an
//! editor's temporary files, a log written beside the configuration and our own reading cause no reload, and an atomic
//! rename, a ConfigMap's `..data` swap or a directory that appears later are all the same simple case: directories are
//! listed anew after every burst of events. The same fingerprint serves where there is no inotify, every two seconds.
//!
//! Start watching before loading: a change in between then causes a second load, not a lost one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::Metadata,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher, event::AccessKind};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::supervise;
use crate::config::discovery::{is_hidden, is_yaml};

/// A burst of events is over when nothing came for this long, unless `FLEX_SYNC_DEBOUNCE_TIME` says otherwise,
pub const QUIET: Duration = Duration::from_millis(200);
/// or when it has lasted this many times as long.
const BURST_PAUSES: u32 = 10;
const POLL: Duration = Duration::from_secs(2);
/// Beside inotify: a network file system does not tell what another machine changed.
const POLL_BESIDE: Duration = Duration::from_secs(60);
/// Directories inside directories inside a configured one.
const DEPTH_MAX: usize = 16;
const DIRECTORIES_MAX: usize = 4096;

/// Watches files and directories, existing or not, and beside them the files that the configuration in force names. The
/// receiver gets one message per change, and at most one waits.
pub fn start(paths: Vec<PathBuf>, named: watch::Receiver<Vec<PathBuf>>, quiet: Duration) -> mpsc::Receiver<()> {
    let (sender, changes) = mpsc::channel(1);
    let mut seen = Scan::of(&paths).files;
    supervise::spawn("configuration watch", move || {
        // After a panic the comparison starts with nothing: one reload too many, none too few.
        run(paths.clone(), named.clone(), quiet, std::mem::take(&mut seen), sender.clone())
    });
    changes
}

async fn run(
    paths: Vec<PathBuf>,
    mut named: watch::Receiver<Vec<PathBuf>>,
    quiet: Duration,
    mut seen: Files,
    changes: mpsc::Sender<()>,
) {
    let mut all = paths.clone();
    let (wake, mut events) = mpsc::channel(1);
    let mut watches = match Watches::new(wake) {
        Ok(watches) => Some(watches),
        Err(error) => {
            say_polling(&error);
            None
        }
    };
    loop {
        // Watch first, look second: what changes after the look makes an event.
        let mut scan = Scan::of(&all);
        if let Some(mut kept) = watches.take() {
            match kept.follow(&scan.directories) {
                Ok(()) => watches = Some(kept),
                Err(error) => say_polling(&error),
            }
            scan = Scan::of(&all);
        }
        if scan.files != seen {
            seen = scan.files;
            // Full: a message that says the same is waiting already.
            if let Err(mpsc::error::TrySendError::Closed(())) = changes.try_send(()) {
                return;
            }
        }
        tokio::select! {
            () = changes.closed() => return,
            Ok(()) = named.changed() => {
                // Read a moment ago, as the rest was at the start: what is new among them is no change.
                all.clone_from(&paths);
                all.extend(named.borrow_and_update().iter().cloned());
                let scan = Scan::of(&all).files;
                seen.retain(|path, _| scan.contains_key(path));
                for (path, stamp) in scan {
                    seen.entry(path).or_insert(stamp);
                }
            }
            () = next(&mut events, watches.is_some(), quiet) => {}
        }
    }
}

/// Returns after the next burst of events, or after the time between two looks.
async fn next(events: &mut mpsc::Receiver<()>, watching: bool, quiet: Duration) {
    if !watching {
        return sleep(POLL).await;
    }
    match timeout(POLL_BESIDE, events.recv()).await {
        Ok(Some(())) => {}
        Ok(None) => return sleep(POLL).await, // inotify's thread has gone
        Err(_) => return,
    }
    let end = Instant::now() + BURST_PAUSES * quiet;
    while let Ok(Some(())) = timeout_at(end.min(Instant::now() + quiet), events.recv()).await {}
}

fn say_polling(error: &notify::Error) {
    tracing::warn!(
        %error,
        "the configuration cannot be watched by inotify and is looked at every {POLL:?} instead; \
         fs.inotify.max_user_watches or max_user_instances may be too low"
    );
}

/// inotify watches, one for each directory (so that they can follow symbolic links and be renewed one by one).
struct Watches {
    watcher: RecommendedWatcher,
    /// Path and inode: a directory that was replaced under the same name needs a new watch.
    current: BTreeSet<(PathBuf, u64)>,
}

impl Watches {
    fn new(wake: mpsc::Sender<()>) -> notify::Result<Self> {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let reading = |kind| matches!(kind, EventKind::Access(access) if !matches!(access, AccessKind::Close(_)));
            // An error may mean lost events: look.
            if event.map_or(true, |event| !reading(event.kind)) {
                let _ = wake.try_send(()); // full: it will wake anyway
            }
        })?;
        Ok(Self { watcher, current: BTreeSet::new() })
    }

    fn follow(&mut self, wanted: &BTreeSet<(PathBuf, u64)>) -> notify::Result<()> {
        for (gone, _) in self.current.difference(wanted) {
            let _ = self.watcher.unwatch(gone); // it may have gone by itself
        }
        let mut current: BTreeSet<_> = self.current.intersection(wanted).cloned().collect();
        for new in wanted.difference(&self.current) {
            match self.watcher.watch(&new.0, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    current.insert(new.clone());
                }
                // Deleted between the listing and now; its parent has told us.
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(error),
            }
        }
        self.current = current;
        Ok(())
    }
}

fn is_missing(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(error) => error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

type Files = BTreeMap<PathBuf, Stamp>;

/// What tells one content of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// What there is now: the files that the loader would read, and every directory whose change could change that.
#[derive(Debug, Default)]
struct Scan {
    files: Files,
    directories: BTreeSet<(PathBuf, u64)>,
}

impl Scan {
    fn of(paths: &[PathBuf]) -> Self {
        let mut scan = Self::default();
        for path in paths {
            scan.ancestors(path);
            match path.metadata() {
                Ok(metadata) if metadata.is_dir() => scan.directory(path, &metadata, &mut Vec::new()),
                Ok(metadata) => scan.file(path, &metadata),
                Err(_) => {} // not there yet
            }
        }
        scan
    }

    /// The nearest directory above the path that exists. For one that appears, disappears or is a link.
    fn ancestors(&mut self, path: &Path) {
        for parent in path.ancestors().skip(1) {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            if let Ok(metadata) = parent.metadata()
                && metadata.is_dir()
            {
                self.directories.insert((parent.to_owned(), metadata.ino()));
                return;
            }
        }
    }

    /// `above` holds the inodes on the way here: a link to one of them leads in a circle.
    fn directory(&mut self, path: &Path, metadata: &Metadata, above: &mut Vec<u64>) {
        let deep = above.len() >= DEPTH_MAX || self.directories.len() >= DIRECTORIES_MAX;
        if deep || above.contains(&metadata.ino()) {
            return;
        }
        self.directories.insert((path.to_owned(), metadata.ino()));
        let Ok(entries) = path.read_dir() else { return };
        above.push(metadata.ino());
        for entry in entries.flatten() {
            let path = entry.path();
            // A ConfigMap's `..data` shows in what the links through it lead to.
            if is_hidden(&path) {
                continue;
            }
            let Ok(metadata) = path.metadata() else { continue };
            if metadata.is_dir() {
                self.directory(&path, &metadata, above);
            } else if is_yaml(&path) {
                self.file(&path, &metadata);
            }
        }
        above.pop();
    }

    fn file(&mut self, path: &Path, metadata: &Metadata) {
        // What a link leads to may be changed where it lies.
        if path.is_symlink()
            && let Ok(target) = path.canonicalize()
        {
            self.ancestors(&target);
        }
        self.files.insert(path.to_owned(), Stamp::of(metadata));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{create_dir, create_dir_all, read, remove_file, rename, write},
        os::unix::fs::symlink,
    };

    use super::*;

    async fn one_change(changes: &mut mpsc::Receiver<()>) {
        tokio::time::timeout(Duration::from_secs(20), changes.recv())
            .await
            .expect("a change in time")
            .expect("it runs");
    }

    fn nothing() -> watch::Receiver<Vec<PathBuf>> {
        watch::channel(Vec::new()).1
    }

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary directory")
    }

    #[tokio::test]
    async fn saving_renaming_and_deleting_are_changes() {
        let at = directory();
        let file = at.path().join("api.yaml");
        let mut changes = start(vec![at.path().to_owned()], nothing(), QUIET);
        write(&file, "a").expect("room");
        one_change(&mut changes).await;
        write(at.path().join("new"), "b").expect("room");
        rename(at.path().join("new"), &file).expect("the same file system");
        one_change(&mut changes).await;
        remove_file(&file).expect("it is there");
        one_change(&mut changes).await;
    }

    #[tokio::test]
    async fn a_configmap_swap_is_a_change() {
        let at = directory();
        let root = at.path();
        for version in ["..1", "..2"] {
            create_dir(root.join(version)).expect("room");
            write(root.join(version).join("api.yaml"), version).expect("room");
        }
        symlink("..1", root.join("..data")).expect("room");
        symlink("..data/api.yaml", root.join("api.yaml")).expect("room");
        let mut directories = start(vec![root.to_owned()], nothing(), QUIET);
        let mut single = start(vec![root.join("api.yaml")], nothing(), QUIET);
        symlink("..2", root.join("..data_tmp")).expect("room");
        rename(root.join("..data_tmp"), root.join("..data")).expect("the same file system");
        one_change(&mut directories).await;
        one_change(&mut single).await;
    }

    #[tokio::test]
    async fn a_directory_created_later_is_watched() {
        let at = directory();
        let path = at.path().join("conf.d");
        let mut changes = start(vec![path.clone()], nothing(), QUIET);
        create_dir_all(path.join("custom/deep")).expect("room");
        write(path.join("custom/deep/api.yml"), "a").expect("room");
        one_change(&mut changes).await;
        write(path.join("custom/deep/api.yml"), "ab").expect("room");
        one_change(&mut changes).await;
    }

    #[test]
    fn only_what_the_loader_reads_counts() {
        let at = directory();
        write(at.path().join("api.yaml"), "a").expect("room");
        let before = Scan::of(&[at.path().to_owned()]);
        write(at.path().join("access.log"), "line").expect("room");
        read(at.path().join("api.yaml")).expect("it is there");
        let after = Scan::of(&[at.path().to_owned()]);
        assert_eq!(before.files, after.files);
        assert_eq!(before.files.len(), 1);
        write(at.path().join("api.yaml"), "ab").expect("room");
        assert_ne!(before.files, Scan::of(&[at.path().to_owned()]).files);
    }

    #[test]
    fn a_link_to_itself_ends() {
        let at = directory();
        symlink(at.path(), at.path().join("loop")).expect("room");
        write(at.path().join("api.yaml"), "a").expect("room");
        assert_eq!(Scan::of(&[at.path().to_owned()]).files.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_ends_after_a_pause_or_two_seconds() {
        let (wake, mut events) = mpsc::channel(1);
        let noise = tokio::spawn(async move {
            while wake.send(()).await.is_ok() {
                sleep(Duration::from_millis(150)).await;
            }
        });
        let began = Instant::now();
        next(&mut events, true, QUIET).await;
        assert!(began.elapsed() >= BURST_PAUSES * QUIET && began.elapsed() <= (BURST_PAUSES + 1) * QUIET);
        noise.abort();
    }
}
