use std::{
    io::Write,
    os::unix::fs::{PermissionsExt, chown, lchown, symlink},
    path::PathBuf,
};

use nix::unistd::geteuid;

use super::*;

const STRANGER: u32 = 12345;

fn refused(path: &Path) -> String {
    let error = OutputFile::create(path, true, Readers::Owner).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    error.to_string()
}

#[test]
fn only_the_owner_reads_a_recording() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("a");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    OutputFile::create(&path, false, Readers::Owner).unwrap();
    assert_eq!(mode(&path), 0o600);
    // Also where the file that it replaces was open to all, and for those who have that open.
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let before = File::open(&path).unwrap();
    OutputFile::create(&path, true, Readers::Owner).unwrap();
    assert_eq!((mode(&path), io::read_to_string(before).unwrap().as_str()), (0o600, "old"));
    let exists = OutputFile::create(&path, false, Readers::Owner).unwrap_err();
    assert_eq!(exists.kind(), ErrorKind::AlreadyExists);
}

#[test]
fn own_links_are_followed() {
    let dir = tempfile::TempDir::new().unwrap();
    let (file, link) = (dir.path().join("file"), dir.path().join("link"));
    symlink("file", &link).unwrap();
    fs::write(&file, "old").unwrap();
    assert!(OutputFile::create(&link, false, Readers::Owner).is_err());
    OutputFile::create(&link, true, Readers::Owner).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    symlink(&link, dir.path().join("again")).unwrap();
    symlink("circle", dir.path().join("circle")).unwrap();
    assert!(OutputFile::create(&dir.path().join("again"), true, Readers::Owner).is_ok());
    assert!(OutputFile::create(&dir.path().join("circle"), true, Readers::Owner).is_err());
}

#[test]
fn links_and_files_of_others_are_not_touched() {
    if !geteuid().is_root() {
        eprintln!("skipped: only root can give a file to another user");
        return;
    }
    let dir = tempfile::TempDir::new().unwrap();
    let (precious, link) = (dir.path().join("precious"), dir.path().join("link"));
    fs::write(&precious, "precious").unwrap();
    symlink(&precious, &link).unwrap();
    lchown(&link, Some(STRANGER), None).unwrap();
    assert!(refused(&link).contains("a link of another user"));
    // A link of one's own that leads to one.
    symlink(&link, dir.path().join("own")).unwrap();
    assert!(refused(&dir.path().join("own")).contains("a link of another user"));
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    chown(&precious, Some(STRANGER), None).unwrap();
    assert!(refused(&precious).contains("a file of another user"));
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
}

#[test]
fn a_link_of_others_on_the_way_is_not_followed() {
    if !geteuid().is_root() {
        eprintln!("skipped: only root can give a link to another user");
        return;
    }
    let dir = tempfile::TempDir::new().unwrap();
    let (folder, link) = (dir.path().join("folder"), dir.path().join("link"));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("precious"), "precious").unwrap();
    symlink("folder", &link).unwrap();
    OutputFile::create(&link.join("own"), false, Readers::Owner).unwrap();
    lchown(&link, Some(STRANGER), None).unwrap();
    for name in ["precious", "new"] {
        assert!(refused(&link.join(name)).contains("link is a link of another user"));
    }
    assert_eq!(fs::read_to_string(folder.join("precious")).unwrap(), "precious");
    assert!(!folder.join("new").exists());
}

#[test]
fn a_file_is_written_by_one_program_at_a_time() {
    let (_dir, path) = file();
    let first = OutputFile::create(&path, false, Readers::Owner).unwrap();
    let busy = OutputFile::create(&path, true, Readers::Umask).unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::ResourceBusy, "{busy}");
    assert!(busy.to_string().contains("another recording is being written"), "{busy}");
    first.check(&path, 0).unwrap();
    drop(first);
    OutputFile::create(&path, true, Readers::Umask).unwrap().check(&path, 0).unwrap();
}

#[test]
fn a_reserved_file_is_not_written_by_another_program() {
    let (_dir, path) = file();
    let busy = |path: &Path| {
        let error = OutputFile::create(path, true, Readers::Owner).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceBusy, "{error}");
    };
    fs::write(&path, "old").unwrap();
    let reserved = ReservedOutput::new(&path, true).unwrap();
    busy(&path);
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    let output = reserved.create(Readers::Owner).unwrap();
    busy(&path);
    output.check(&path, 0).unwrap();
    drop(output);
    assert!(ReservedOutput::new(&path, true).is_ok() && ReservedOutput::new(&path, false).is_err());
}

#[test]
fn what_came_meanwhile_is_not_replaced_by_who_had_reserved_the_place() {
    for stood_there in [false, true] {
        let (_dir, path) = file();
        if stood_there {
            fs::write(&path, "old").unwrap();
        }
        let reserved = ReservedOutput::new(&path, true).unwrap();
        // In a file of its own, so that it is not the same one again.
        fs::write(path.with_extension("new"), "new").unwrap();
        fs::rename(path.with_extension("new"), &path).unwrap();
        let error = reserved.create(Readers::Owner).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    }
    let (_dir, path) = file();
    fs::write(&path, "old").unwrap();
    let reserved = ReservedOutput::new(&path, true).unwrap();
    fs::remove_file(&path).unwrap();
    reserved.create(Readers::Owner).unwrap().check(&path, 0).unwrap();
}

#[test]
fn of_many_programs_at_once_one_has_the_file() {
    let (_dir, path) = file();
    for _ in 0..200 {
        fs::write(&path, "old").unwrap();
        let create = || OutputFile::create(&path, true, Readers::Owner).ok();
        let outputs: Vec<OutputFile> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(create)).collect();
            threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
        });
        let [output] = &outputs[..] else { panic!("{} of them have it", outputs.len()) };
        output.check(&path, 0).unwrap();
    }
}

#[test]
fn what_happens_to_the_file_is_told() {
    let (dir, path) = file();
    let mut output = OutputFile::create(&path, false, Readers::Owner).unwrap();
    output.file.write_all(b"1234").unwrap();
    output.check(&path, 4).unwrap();
    let said = |bytes| output.check(&path, bytes).unwrap_err();
    fs::write(&path, "").unwrap();
    assert!(said(4).contains("it has 0 of 4 bytes"));
    fs::rename(&path, dir.path().join("b.otr")).unwrap();
    assert!(said(4).contains("deleted or moved"));
    fs::write(&path, "1234").unwrap();
    assert!(said(4).contains("replaced"));
    // What somebody else has put there stays.
    output.discard();
    assert!(path.exists());
}

#[test]
fn what_is_discarded_is_gone_and_the_link_to_it_stays() {
    let (dir, path) = file();
    let link = dir.path().join("link");
    symlink(&path, &link).unwrap();
    OutputFile::create(&link, true, Readers::Owner).unwrap().discard();
    assert!(!path.exists() && fs::symlink_metadata(&link).is_ok());
    OutputFile::create(Path::new("/dev/null"), true, Readers::Owner).unwrap().discard();
    assert!(Path::new("/dev/null").exists());
}

fn file() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("a.otr");
    (dir, path)
}
