//! Files as drivers use them: by the exports, over a folder of the host.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::{Mutex, Once, PoisonError};

use gate::export::Export;
use nt_abi::{Handle, NtStatus, UnicodeString};
use proves::proves;

const READ: u32 = 0x1;
const WRITE: u32 = 0x2;
const APPEND: u32 = 0x4;
const DELETE: u32 = 0x1_0000;
const SHARE_ALL: u32 = 7;

const SUPERSEDE: u32 = 0;
const OPEN: u32 = 1;
const CREATE: u32 = 2;
const OPEN_IF: u32 = 3;
const OVERWRITE: u32 = 4;

const DIRECTORY_FILE: u32 = 0x1;
const SYNCHRONOUS: u32 = 0x20;
const NON_DIRECTORY_FILE: u32 = 0x40;
const DELETE_ON_CLOSE: u32 = 0x1000;

/// The folder that is drive C:, with a secret beside it that no driver may see.
fn drive() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("files/drive")
}

/// Runs a test on a thread of the kernel; tests take turns, and each has a folder of its own on the drive.
fn with_drive(folder: &str, test: fn(PathBuf)) {
    static STARTED: Once = Once::new();
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    STARTED.call_once(|| {
        let _ = fs::remove_dir_all(drive().parent().expect("a parent"));
        fs::create_dir_all(drive().join("Windows")).expect("a folder");
        fs::write(drive().join("../secret"), "secret").expect("a file");
    });
    let own = drive().join(folder);
    fs::create_dir_all(&own).expect("a folder");
    let run = move || {
        nt_dispatcher::thread::adopt_current().expect("a kernel thread");
        static VOLUME: Once = Once::new();
        VOLUME.call_once(|| {
            gate::fault::install().expect("fault handlers");
            let root = fs::File::open(drive()).expect("the folder");
            host_files::start(root.into()).expect("a volume");
        });
        test(own);
    };
    std::thread::spawn(run).join().expect("the test's thread");
}

fn call(name: &str, arguments: &[u64]) -> NtStatus {
    let rows = nt_io::TABLES.iter().copied().flatten();
    let export: &Export = rows.into_iter().find(|row| row.name == name).expect("an export");
    // SAFETY: tests pass what the function's row in the table says.
    NtStatus(unsafe { gate::call::call_n(export.address(), arguments) } as u32)
}

/// `OBJECT_ATTRIBUTES` and what it points to.
struct Named {
    _text: Vec<u16>,
    _string: Box<UnicodeString>,
    attributes: [u64; 6],
}

fn named(root: Handle, name: &str) -> Named {
    let mut text: Vec<u16> = name.encode_utf16().collect();
    let length = (text.len() * 2) as u16;
    let string = Box::new(UnicodeString { length, maximum_length: length, _pad: 0, buffer: text.as_mut_ptr() });
    let attributes = [0x30, root.0, std::ptr::from_ref(&*string) as u64, 0x240, 0, 0];
    Named { _text: text, _string: string, attributes }
}

#[derive(Debug)]
struct Opened {
    status: NtStatus,
    handle: Handle,
    information: u64,
}

fn create(root: Handle, name: &str, access: u32, disposition: u32, options: u32, share: u32) -> Opened {
    let named = named(root, name);
    let (mut handle, mut iosb) = (Handle(0), [u64::MAX; 2]);
    let attributes = named.attributes.as_ptr() as u64;
    let (handle_at, iosb_at) = (&raw mut handle as u64, iosb.as_mut_ptr() as u64);
    let numbers = [0x80, share, disposition, options].map(u64::from);
    let [file_attributes, share, disposition, options] = numbers;
    let arguments =
        [handle_at, access.into(), attributes, iosb_at, 0, file_attributes, share, disposition, options, 0, 0];
    let status = call("ZwCreateFile", &arguments);
    Opened { status, handle, information: iosb[1] }
}

/// An open that is waited on and lets others do everything.
#[track_caller]
fn open(name: &str, access: u32, disposition: u32) -> Handle {
    let opened = create(Handle(0), name, access, disposition, SYNCHRONOUS, SHARE_ALL);
    assert_eq!(opened.status, NtStatus::SUCCESS, "{name}");
    opened.handle
}

#[track_caller]
fn refused(name: &str, access: u32, disposition: u32, options: u32) -> NtStatus {
    let opened = create(Handle(0), name, access, disposition, options, SHARE_ALL);
    assert_eq!(opened.handle.0, 0, "{name}");
    opened.status
}

fn close(handle: Handle) {
    assert_eq!(call("ZwClose", &[handle.0]), NtStatus::SUCCESS);
}

fn read_at(handle: Handle, length: usize, offset: Option<u64>) -> Result<Vec<u8>, NtStatus> {
    let (mut buffer, mut iosb) = (vec![0; length], [0u64; 2]);
    let offset = offset.map(Box::new);
    let at = offset.as_deref().map_or(0, |offset| std::ptr::from_ref(offset) as u64);
    let (buffer_at, iosb_at) = (buffer.as_mut_ptr() as u64, iosb.as_mut_ptr() as u64);
    let status = call("ZwReadFile", &[handle.0, 0, 0, 0, iosb_at, buffer_at, length as u64, at, 0]);
    buffer.truncate(iosb[1] as usize);
    if status == NtStatus::SUCCESS { Ok(buffer) } else { Err(status) }
}

fn write_at(handle: Handle, bytes: &[u8], offset: Option<u64>) -> Result<u64, NtStatus> {
    let mut iosb = [0u64; 2];
    let offset = offset.map(Box::new);
    let at = offset.as_deref().map_or(0, |offset| std::ptr::from_ref(offset) as u64);
    let arguments = [handle.0, 0, 0, 0, iosb.as_mut_ptr() as u64, bytes.as_ptr() as u64, bytes.len() as u64, at, 0];
    match call("ZwWriteFile", &arguments) {
        NtStatus::SUCCESS => Ok(iosb[1]),
        status => Err(status),
    }
}

fn query(handle: Handle, class: u32, room: usize) -> (NtStatus, Vec<u8>) {
    let (mut buffer, mut iosb) = (vec![0; room], [0u64; 2]);
    let (iosb_at, buffer_at) = (iosb.as_mut_ptr() as u64, buffer.as_mut_ptr() as u64);
    let status = call("ZwQueryInformationFile", &[handle.0, iosb_at, buffer_at, room as u64, class.into()]);
    buffer.truncate(if status.is_error() { 0 } else { iosb[1] as usize });
    (status, buffer)
}

fn set(handle: Handle, class: u32, bytes: &[u8]) -> NtStatus {
    let mut iosb = [0u64; 2];
    let (iosb_at, buffer_at) = (iosb.as_mut_ptr() as u64, bytes.as_ptr() as u64);
    call("ZwSetInformationFile", &[handle.0, iosb_at, buffer_at, bytes.len() as u64, class.into()])
}

fn rename(handle: Handle, root: Handle, name: &str, replaces: bool) -> NtStatus {
    let units: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut bytes = u64::from(replaces).to_le_bytes().to_vec();
    bytes.extend(root.0.to_le_bytes());
    bytes.extend((units.len() as u32).to_le_bytes());
    bytes.extend(units);
    set(handle, 10, &bytes)
}

/// Names of one listing step, in `FILE_NAMES_INFORMATION`.
fn list(handle: Handle, pattern: Option<&str>, room: usize, restart: bool) -> Result<Vec<String>, NtStatus> {
    let pattern = pattern.map(|pattern| named(Handle(0), pattern));
    let at = pattern.as_ref().map_or(0, |named| named.attributes[2]);
    let (mut buffer, mut iosb) = (vec![0u8; room], [0u64; 2]);
    let (iosb_at, buffer_at) = (iosb.as_mut_ptr() as u64, buffer.as_mut_ptr() as u64);
    let arguments = [handle.0, 0, 0, 0, iosb_at, buffer_at, room as u64, 12, 0, at, restart.into()];
    match call("ZwQueryDirectoryFile", &arguments) {
        NtStatus::SUCCESS => {}
        status => return Err(status),
    }
    let word = |at: usize| u32::from_le_bytes(buffer[at..at + 4].try_into().expect("four bytes")) as usize;
    let (mut names, mut entry) = (Vec::new(), 0);
    loop {
        let name = &buffer[entry + 12..][..word(entry + 8)];
        let units: Vec<u16> = name.chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        names.push(String::from_utf16(&units).expect("a name"));
        match word(entry) {
            0 => return Ok(names),
            next => entry += next,
        }
    }
}

#[test]
#[proves("C-070")]
fn what_is_written_is_in_the_hosts_file_and_is_read_back() {
    with_drive("write", |folder| {
        let handle = open(r"\??\C:\write\log.txt", READ | WRITE, CREATE);
        assert_eq!(write_at(handle, b"one two", None), Ok(7));
        assert_eq!(write_at(handle, b" three", None), Ok(6), "behind the first: the file is waited on");
        assert_eq!(fs::read(folder.join("log.txt")).expect("the file"), b"one two three");
        assert_eq!(read_at(handle, 100, Some(4)), Ok(b"two three".to_vec()));
        assert_eq!(read_at(handle, 100, Some(13)), Err(NtStatus::END_OF_FILE));
        assert_eq!(read_at(handle, 100, Some(-1_i64 as u64)), Err(NtStatus::INVALID_PARAMETER));
        assert_eq!(write_at(handle, b"!", Some(u64::MAX)), Ok(1), "at the end");
        assert_eq!(call("ZwFlushBuffersFile", &[handle.0, [0u64; 2].as_mut_ptr() as u64]), NtStatus::SUCCESS);
        close(handle);
        assert_eq!(fs::read(folder.join("log.txt")).expect("the file"), b"one two three!");
    });
}

#[test]
fn transfer_longer_than_one_step_of_the_host_is_whole() {
    with_drive("long", |folder| {
        let bytes: Vec<u8> = (0..200_001u32).map(|number| (number % 251) as u8).collect();
        let handle = open(r"\??\C:\long\bytes", READ | WRITE, CREATE);
        assert_eq!(write_at(handle, &bytes, Some(3)), Ok(bytes.len() as u64));
        assert_eq!(read_at(handle, 300_000, Some(3)), Ok(bytes.clone()));
        close(handle);
        assert_eq!(&fs::read(folder.join("bytes")).expect("the file")[3..], bytes);
    });
}

#[test]
fn transfer_by_a_bad_address_is_an_access_violation() {
    with_drive("bad", |_| {
        let handle = open(r"\??\C:\bad\file", READ | WRITE, CREATE);
        write_at(handle, b"bytes", None).expect("written");
        let (mut iosb, offset) = ([0u64; 2], 0u64);
        for name in ["ZwReadFile", "ZwWriteFile"] {
            let at = std::ptr::from_ref(&offset) as u64;
            let arguments = [handle.0, 0, 0, 0, iosb.as_mut_ptr() as u64, 0x5000, 5, at, 0];
            assert_eq!(call(name, &arguments), NtStatus::ACCESS_VIOLATION, "{name}");
        }
        close(handle);
    });
}

#[test]
fn append_access_writes_at_the_end_wherever_it_is_told_to() {
    with_drive("append", |folder| {
        fs::write(folder.join("log"), "first").expect("a file");
        let handle = open(r"\??\C:\append\log", APPEND, OPEN);
        assert_eq!(write_at(handle, b", second", Some(0)), Ok(8));
        close(handle);
        assert_eq!(fs::read(folder.join("log")).expect("the file"), b"first, second");
    });
}

#[test]
fn names_are_found_in_any_case_and_by_the_exact_one_first() {
    with_drive("Case", |folder| {
        fs::write(folder.join("Ärger.TXT"), "upper").expect("a file");
        fs::write(folder.join("two"), "small").expect("a file");
        fs::write(folder.join("TWO"), "large").expect("a file");
        for (name, content) in [
            (r"\??\c:\cASE\äRGER.txt", "upper"),
            (r"\DosDevices\C:\Case\two", "small"),
            (r"\Device\HarddiskVolume1\CASE\TWO", "large"),
            (r"\??\C:\case\Two", "large"),
        ] {
            let handle = open(name, READ, OPEN);
            assert_eq!(read_at(handle, 10, None), Ok(content.into()), "{name}");
            close(handle);
        }
        assert_eq!(refused(r"\??\C:\case\ärger.TXT", WRITE, CREATE, 0), NtStatus::OBJECT_NAME_COLLISION);
    });
}

#[test]
fn system_root_is_the_folder_windows() {
    with_drive("root", |_| {
        fs::write(drive().join("Windows/system.ini"), "[boot]").expect("a file");
        let handle = open(r"\SystemRoot\SYSTEM.INI", READ, OPEN);
        assert_eq!(read_at(handle, 10, None), Ok(b"[boot]".to_vec()));
        close(handle);
    });
}

#[test]
fn nothing_outside_of_the_folder_is_reached() {
    with_drive("inside", |folder| {
        symlink("../../secret", folder.join("up")).expect("a link");
        symlink(drive().join("../secret"), folder.join("absolute")).expect("a link");
        symlink("../..", folder.join("parent")).expect("a link");
        symlink("/proc/self/root", folder.join("magic")).expect("a link");
        symlink("../inside", folder.join("within")).expect("a link");
        fs::write(folder.join("mine"), "mine").expect("a file");
        for name in ["up", "absolute", r"parent\secret", r"magic\etc\passwd", "parent", "magic"] {
            let name = format!(r"\??\C:\inside\{name}");
            for disposition in [OPEN, OPEN_IF, SUPERSEDE] {
                assert_eq!(refused(&name, READ, disposition, 0), NtStatus::ACCESS_DENIED, "{name}");
            }
        }
        for name in
            [r"\??\C:\..\secret", r"\??\C:\inside\..\..\secret", r"\SystemRoot\..\..\secret", r"\??\C:\a/../../b"]
        {
            assert_eq!(refused(name, READ, OPEN, 0), NtStatus::OBJECT_NAME_INVALID, "{name}");
        }
        let mine = open(r"\??\C:\inside\within\mine", READ | DELETE, OPEN);
        for (name, status) in [
            (r"\??\C:\inside\parent\stolen", NtStatus::ACCESS_DENIED),
            (r"..\stolen", NtStatus::OBJECT_NAME_INVALID),
            (r"\Device\Other\stolen", NtStatus::OBJECT_PATH_NOT_FOUND),
        ] {
            assert_eq!(rename(mine, Handle(0), name, true), status, "{name}");
        }
        close(mine);
        assert_eq!(fs::read(drive().join("../secret")).expect("the secret"), b"secret");
        assert!(!drive().join("../stolen").exists());
    });
}

#[test]
fn pipes_of_the_host_are_no_files() {
    with_drive("pipes", |folder| {
        let made = std::process::Command::new("mkfifo").arg(folder.join("pipe")).status().expect("mkfifo");
        assert!(made.success());
        assert_eq!(refused(r"\??\C:\pipes\pipe", READ, OPEN, 0), NtStatus::ACCESS_DENIED);
    });
}

#[test]
fn dispositions_do_and_say_what_they_are_for() {
    with_drive("how", |folder| {
        let name = r"\??\C:\how\file";
        let tried = |disposition| {
            let opened = create(Handle(0), name, READ | WRITE, disposition, SYNCHRONOUS, SHARE_ALL);
            if opened.handle.0 != 0 {
                close(opened.handle);
            }
            (opened.status, opened.information)
        };
        let length = || fs::metadata(folder.join("file")).expect("the file").len();
        assert_eq!(tried(OPEN).0, NtStatus::OBJECT_NAME_NOT_FOUND);
        assert_eq!(tried(OVERWRITE).0, NtStatus::OBJECT_NAME_NOT_FOUND);
        assert_eq!(tried(CREATE), (NtStatus::SUCCESS, 2));
        assert_eq!(tried(CREATE).0, NtStatus::OBJECT_NAME_COLLISION);
        fs::write(folder.join("file"), "bytes").expect("the file");
        assert_eq!((tried(OPEN), tried(OPEN_IF), length()), ((NtStatus::SUCCESS, 1), (NtStatus::SUCCESS, 1), 5));
        assert_eq!((tried(OVERWRITE), length()), ((NtStatus::SUCCESS, 3), 0));
        fs::write(folder.join("file"), "bytes").expect("the file");
        assert_eq!((tried(SUPERSEDE), length()), ((NtStatus::SUCCESS, 0), 0));
        assert_eq!(tried(6).0, NtStatus::INVALID_PARAMETER);
        assert_eq!(refused(r"\??\C:\how\no\file", READ, OPEN_IF, 0), NtStatus::OBJECT_PATH_NOT_FOUND);
        assert_eq!(refused(r"\??\C:\how\file\x", READ, OPEN_IF, 0), NtStatus::OBJECT_PATH_NOT_FOUND);
    });
}

#[test]
fn folders_and_files_are_told_apart() {
    with_drive("kinds", |folder| {
        let opened = create(Handle(0), r"\??\C:\kinds\sub\", READ, CREATE, DIRECTORY_FILE, SHARE_ALL);
        assert_eq!((opened.status, opened.information), (NtStatus::SUCCESS, 2));
        assert!(folder.join("sub").is_dir());
        assert_eq!(read_at(opened.handle, 1, Some(0)), Err(NtStatus::INVALID_DEVICE_REQUEST));
        let inner = create(opened.handle, r"inner", WRITE, CREATE, 0, SHARE_ALL);
        assert_eq!(inner.status, NtStatus::SUCCESS, "relative to the folder's handle");
        assert!(folder.join("sub/inner").is_file());
        close(inner.handle);
        close(opened.handle);
        assert_eq!(refused(r"\??\C:\kinds\sub", READ, OPEN, NON_DIRECTORY_FILE), NtStatus::FILE_IS_A_DIRECTORY);
        assert_eq!(refused(r"\??\C:\kinds\sub\inner", READ, OPEN, DIRECTORY_FILE), NtStatus::NOT_A_DIRECTORY);
        assert_eq!(refused(r"\??\C:\kinds\sub\inner\", READ, OPEN, 0), NtStatus::OBJECT_NAME_INVALID);
        let both = DIRECTORY_FILE | NON_DIRECTORY_FILE;
        assert_eq!(refused(r"\??\C:\kinds\sub", READ, OPEN, both), NtStatus::INVALID_PARAMETER);
        let volume = create(Handle(0), r"\??\C:", READ, OPEN, 0, SHARE_ALL);
        assert_eq!(volume.status, NtStatus::SUCCESS, "the volume itself");
        assert_eq!(read_at(volume.handle, 1, Some(0)), Err(NtStatus::INVALID_DEVICE_REQUEST));
        close(volume.handle);
    });
}

#[test]
#[proves("K-099")]
fn opens_that_exclude_one_another_are_sharing_violations() {
    with_drive("share", |_| {
        let name = r"\??\C:\share\file";
        let first = create(Handle(0), name, READ, CREATE, 0, 1);
        assert_eq!(first.status, NtStatus::SUCCESS);
        assert_eq!(refused(name, WRITE, OPEN, 0), NtStatus::SHARING_VIOLATION);
        let second = create(Handle(0), name, READ, OPEN, 0, 1);
        assert_eq!(second.status, NtStatus::SUCCESS);
        close(first.handle);
        assert_eq!(refused(name, WRITE, OPEN, 0), NtStatus::SHARING_VIOLATION, "the second is there still");
        close(second.handle);
        close(open(name, WRITE, OPEN));
    });
}

#[test]
#[proves("K-160")]
fn file_marked_for_deletion_goes_with_its_last_handle() {
    with_drive("delete", |folder| {
        let name = r"\??\C:\delete\file";
        let (first, second) = (open(name, DELETE, CREATE), open(name, READ, OPEN));
        assert_eq!(set(first, 13, &[1]), NtStatus::SUCCESS);
        assert_eq!(refused(name, READ, OPEN, 0), NtStatus::DELETE_PENDING);
        close(first);
        assert!(folder.join("file").exists(), "one handle is open");
        close(second);
        assert!(!folder.join("file").exists());

        let handle = create(Handle(0), name, DELETE, CREATE, DELETE_ON_CLOSE, SHARE_ALL).handle;
        close(handle);
        assert!(!folder.join("file").exists());
        assert_eq!(refused(name, READ, OPEN_IF, DELETE_ON_CLOSE), NtStatus::INVALID_PARAMETER, "without the right to");

        fs::write(folder.join("file"), "").expect("a file");
        let by_name = named(Handle(0), r"\??\C:\DELETE\FILE");
        assert_eq!(call("ZwDeleteFile", &[by_name.attributes.as_ptr() as u64]), NtStatus::SUCCESS);
        assert!(!folder.join("file").exists());
        assert_eq!(call("ZwDeleteFile", &[by_name.attributes.as_ptr() as u64]), NtStatus::OBJECT_NAME_NOT_FOUND);
    });
}

#[test]
fn filled_folder_and_read_only_file_cannot_be_deleted() {
    with_drive("keep", |folder| {
        fs::create_dir(folder.join("full")).expect("a folder");
        fs::write(folder.join("full/file"), "x").expect("a file");
        let full = create(Handle(0), r"\??\C:\keep\full", DELETE, OPEN, DIRECTORY_FILE, SHARE_ALL).handle;
        assert_eq!(set(full, 13, &[1]), NtStatus::DIRECTORY_NOT_EMPTY);
        close(full);
        let file = open(r"\??\C:\keep\full\file", DELETE, OPEN);
        let mut basic = [0u8; 40];
        basic[32] = 1;
        assert_eq!(set(file, 4, &basic), NtStatus::SUCCESS);
        assert_eq!(set(file, 13, &[1]), NtStatus::CANNOT_DELETE);
        close(file);
        assert_eq!(refused(r"\??\C:\keep\full\file", WRITE, OPEN, 0), NtStatus::ACCESS_DENIED);
        assert!(folder.join("full/file").exists());
    });
}

#[test]
fn information_tells_what_the_host_knows() {
    with_drive("Info", |folder| {
        fs::write(folder.join("File.txt"), "ten bytes.").expect("a file");
        let handle = open(r"\??\C:\info\file.txt", READ, OPEN);
        let number = |bytes: &[u8], at: usize| i64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight"));
        let (status, standard) = query(handle, 5, 24);
        assert_eq!((status, number(&standard, 8), &standard[16..22]), (NtStatus::SUCCESS, 10, &[1, 0, 0, 0, 0, 0][..]));
        let (status, basic) = query(handle, 4, 40);
        /// The year 2000.
        const Y2K: i64 = 125_911_584_000_000_000;
        assert!(status == NtStatus::SUCCESS && number(&basic, 16) > Y2K && basic[32] == 0x20, "{basic:?}");
        let (status, name) = query(handle, 9, 100);
        let wanted: Vec<u8> = r"\Info\File.txt".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!((status, &name[..4], &name[4..]), (NtStatus::SUCCESS, &[28, 0, 0, 0][..], &wanted[..]));
        assert_eq!(query(handle, 9, 10), (NtStatus::BUFFER_OVERFLOW, name[..10].to_vec()));
        assert_eq!(query(handle, 5, 23).0, NtStatus::INFO_LENGTH_MISMATCH);
        assert_eq!(query(handle, 99, 100).0, NtStatus::INVALID_INFO_CLASS);
        let (status, all) = query(handle, 18, 200);
        assert_eq!((status, number(&all, 48), all.len()), (NtStatus::SUCCESS, 10, 100 + wanted.len()));
        let (status, network) = query(handle, 34, 56);
        assert_eq!((status, number(&network, 40), network.len()), (NtStatus::SUCCESS, 10, 56));
        close(handle);
    });
}

#[test]
fn sizes_times_and_places_are_set() {
    with_drive("set", |folder| {
        let handle = open(r"\??\C:\set\file", READ | WRITE, CREATE);
        write_at(handle, b"0123456789", None).expect("written");
        assert_eq!(set(handle, 20, &4u64.to_le_bytes()), NtStatus::SUCCESS);
        assert_eq!(fs::read(folder.join("file")).expect("the file"), b"0123");
        assert_eq!(set(handle, 20, &(-1i64).to_le_bytes()), NtStatus::INVALID_PARAMETER);
        assert_eq!(set(handle, 20, &[0; 7]), NtStatus::INFO_LENGTH_MISMATCH);
        assert_eq!(set(handle, 14, &1u64.to_le_bytes()), NtStatus::SUCCESS);
        assert_eq!(read_at(handle, 2, None), Ok(b"12".to_vec()));
        assert_eq!(query(handle, 14, 8).1, 3u64.to_le_bytes());
        let mut basic = [0u8; 40];
        let written = 125_911_584_000_000_000_i64 + 5_000_000;
        basic[16..24].copy_from_slice(&written.to_le_bytes());
        assert_eq!(set(handle, 4, &basic), NtStatus::SUCCESS);
        assert_eq!(query(handle, 4, 40).1[16..24], written.to_le_bytes());
        close(handle);
        let reader = open(r"\??\C:\set\file", READ, OPEN);
        assert_eq!(set(reader, 20, &0u64.to_le_bytes()), NtStatus::ACCESS_DENIED);
        close(reader);
    });
}

#[test]
fn files_are_renamed_beside_below_and_by_full_names() {
    with_drive("names", |folder| {
        fs::create_dir(folder.join("sub")).expect("a folder");
        fs::write(folder.join("taken"), "taken").expect("a file");
        let handle = open(r"\??\C:\names\first", READ | DELETE, CREATE);
        assert_eq!(rename(handle, Handle(0), "second", false), NtStatus::SUCCESS);
        assert!(folder.join("second").exists() && !folder.join("first").exists());
        assert_eq!(rename(handle, Handle(0), "SECOND", false), NtStatus::SUCCESS, "case alone");
        assert!(folder.join("SECOND").exists() && !folder.join("second").exists());
        assert_eq!(rename(handle, Handle(0), "Taken", false), NtStatus::OBJECT_NAME_COLLISION);
        assert_eq!(rename(handle, Handle(0), "Taken", true), NtStatus::SUCCESS);
        assert!(folder.join("Taken").exists() && !folder.join("taken").exists());
        let sub = create(Handle(0), r"\??\C:\names\sub", READ, OPEN, DIRECTORY_FILE, SHARE_ALL).handle;
        assert_eq!(rename(handle, sub, "below", false), NtStatus::SUCCESS);
        assert!(folder.join("sub/below").exists());
        assert_eq!(rename(sub, Handle(0), "moved", false), NtStatus::ACCESS_DENIED, "with an open file in it");
        assert_eq!(rename(handle, Handle(0), r"\??\C:\names\full", false), NtStatus::SUCCESS);
        assert!(folder.join("full").exists());
        assert_eq!(rename(sub, Handle(0), r"\??\C:\names\sub\in itself", false), NtStatus::INVALID_PARAMETER);
        assert_eq!(rename(handle, Handle(0), r"sub\x", false), NtStatus::INVALID_PARAMETER);
        close(handle);
        close(sub);
    });
}

#[test]
fn names_that_drivers_cannot_spell_are_not_listed() {
    with_drive("odd", |folder| {
        for name in ["a:b", r"a\b", "a\nb", "a*", "fine"] {
            fs::write(folder.join(name), name).expect("a file");
        }
        fs::write(folder.join(std::ffi::OsStr::from_bytes(b"\xFF")), "").expect("a file");
        let handle = create(Handle(0), r"\??\C:\odd", READ, OPEN, DIRECTORY_FILE | SYNCHRONOUS, SHARE_ALL).handle;
        assert_eq!(list(handle, None, 4096, false), Ok([".", "..", "fine"].map(String::from).to_vec()));
        close(handle);
    });
}

#[test]
fn folder_is_listed_in_order_by_pattern_and_again() {
    with_drive("list", |folder| {
        for name in ["b.txt", "A.txt", "c.log"] {
            fs::write(folder.join(name), name).expect("a file");
        }
        let open_folder =
            || create(Handle(0), r"\??\C:\list", READ, OPEN, DIRECTORY_FILE | SYNCHRONOUS, SHARE_ALL).handle;
        let handle = open_folder();
        let all = [".", "..", "A.txt", "b.txt", "c.log"].map(String::from).to_vec();
        assert_eq!(list(handle, None, 4096, false), Ok(all.clone()));
        assert_eq!(list(handle, None, 4096, false), Err(NtStatus::NO_MORE_FILES));
        assert_eq!(list(handle, Some("*.log"), 4096, true), Ok(all.clone()), "the first pattern counts");
        let mut one_by_one = Vec::new();
        let mut restart = true;
        while let Ok(names) = list(handle, None, 24, std::mem::take(&mut restart)) {
            one_by_one.extend(names);
        }
        assert_eq!(one_by_one, all, "in small buffers");
        assert_eq!(list(handle, None, 11, true), Err(NtStatus::INFO_LENGTH_MISMATCH));
        assert_eq!(list(handle, None, 13, true), Err(NtStatus::BUFFER_OVERFLOW));
        close(handle);
        let handle = open_folder();
        assert_eq!(list(handle, Some("*.TXT"), 4096, false), Ok(all[2..4].to_vec()));
        close(handle);
        let handle = open_folder();
        assert_eq!(list(handle, Some("*.sys"), 4096, false), Err(NtStatus::NO_SUCH_FILE));
        close(handle);
        let file = open(r"\??\C:\list\b.txt", READ, OPEN);
        assert_eq!(list(file, None, 4096, false), Err(NtStatus::INVALID_PARAMETER));
        close(file);
    });
}
