//! Where the program keeps what it must remember, and how it writes it.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::{failure::Failure, random};

/// The folder of this user's configuration and logins: `$RAP_HOME`, else `rap` in
/// `$XDG_CONFIG_HOME`, else `~/.config/rap`.
pub(crate) fn folder() -> Result<PathBuf, Failure> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("RAP_HOME")
        .or_else(|| set("XDG_CONFIG_HOME").map(|folder| folder.join("rap")))
        .or_else(|| set("HOME").map(|folder| folder.join(".config").join("rap")))
        .ok_or_else(|| {
            Failure::usage("there is no place for the configuration")
                .hint("set RAP_HOME to a folder of your own")
        })
}

/// Makes a folder that only this user can enter; one that exists keeps its mode.
pub(crate) fn make_private(folder: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| Failure::io(format!("cannot make {}", folder.display()), &error))
}

/// Writes `path` with mode 0600 so that a reader sees the old or the new content, whole, also
/// after a power cut.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let parent = path.parent().unwrap_or(Path::new("."));
    make_private(parent)?;
    replace(parent, path, content)
        .map_err(|error| Failure::io(format!("cannot write {}", path.display()), &error))
}

fn replace(parent: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let temporary = parent.join(format!(".{name}.{}", random::hex()));
    let written = || {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(parent)?.sync_all()
    };
    let result = written();
    if result.is_err() {
        // What is left of a failed attempt is of no use to anybody.
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// Reads a private file; `None` when there is none. One that others can read is refused.
pub(crate) fn read_private(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let content = match fs::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::io(format!("cannot read {}", path.display()), &error)),
    };
    let mode = fs::metadata(path)
        .map_err(|error| Failure::io(format!("cannot read {}", path.display()), &error))?
        .mode();
    if mode & 0o077 != 0 {
        return Err(Failure::usage(format!("{} can be read by others", path.display()))
            .hint(format!("chmod 600 {}", path.display())));
    }
    Ok(Some(content))
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::io(format!("cannot remove {}", path.display()), &error))
        }
        _ => Ok(()),
    }
}

/// Whether `path` can be entered and read by its user alone.
#[cfg(test)]
pub(crate) fn is_private(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.mode() & 0o077 == 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn private_files_are_written_whole_with_their_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("profiles").join("default.json");
        assert_eq!(read_private(&path), Ok(None));
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(read_private(&path), Ok(Some(b"two".to_vec())));
        assert!(is_private(&path));
        assert!(is_private(path.parent().unwrap()));
        let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "a temporary file stayed behind");
        remove(&path).unwrap();
        remove(&path).unwrap();
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("default.json");
        write_private(&path, b"secret").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let failure = read_private(&path).unwrap_err();
        assert!(failure.to_string().contains("chmod 600"), "{failure}");
    }
}
