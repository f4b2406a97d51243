//! A daemon with its socket, in a mount namespace where a group `nettopd` is known; and clients of all kinds.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use nettop_model::status::Status;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{followed::Followed, hang_timeout, nettopd_command};

/// A group and users that no machine has.
pub const GROUP: u32 = 54_399;
pub const MEMBER: u32 = 54_321;
pub const OUTSIDER: u32 = 54_322;

/// A running daemon.
pub struct Daemon {
    child: Child,
    pub folder: PathBuf,
    /// None where its clients are counted, or its memory is.
    followed: Option<Followed>,
}

impl Daemon {
    /// Starts it, waits for its first interval, and checks its documents from then on.
    pub fn start(folder: &Path, args: &[&str]) -> Self {
        let mut daemon = Self::start_alone(folder, args);
        let socket = daemon.socket();
        daemon.followed.get_or_insert_default().follow(&socket);
        daemon
    }

    /// The same without a client that follows it.
    pub fn start_alone(folder: &Path, args: &[&str]) -> Self {
        Self::start_after(folder, "true", args)
    }

    /// The same, after a line of shell in its mount namespace.
    pub fn start_after(folder: &Path, line: &str, args: &[&str]) -> Self {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        // Its own folder may be closed to others.
        let binary = folder.join("nettopd");
        if !binary.exists() {
            assert!(Command::new("cp").arg(nettopd_command().get_program()).arg(&binary).status().unwrap().success());
        }
        let group = folder.join("group");
        fs::write(&group, fs::read_to_string("/etc/group").unwrap() + &format!("nettopd:x:{GROUP}:\n")).unwrap();
        let script = format!("mount --bind \"$0\" /etc/group && {line} && exec \"$@\"");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script]).arg(&group).arg(&binary).arg("daemon").args(args);
        command.env("NETTOPD_SOCKET", folder.join("nettopd.sock")).env_remove("NOTIFY_SOCKET");
        command.stderr(fs::File::create(folder.join("log")).unwrap());
        let daemon = Self { child: command.spawn().unwrap(), folder: folder.into(), followed: None };
        let deadline = Instant::now() + hang_timeout();
        while daemon.intervals().is_none() {
            assert!(Instant::now() < deadline, "no first interval; log: {}", daemon.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        daemon
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.join("nettopd.sock")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }

    /// When the last interval ended.
    pub fn intervals(&self) -> Option<String> {
        Some(self.status()?.last?.time)
    }

    /// Its status, if it answers.
    pub fn status(&self) -> Option<Status> {
        let answer = self.get("/v1/status").ok()?;
        (answer.status == 200).then(|| answer.document())
    }

    /// nettopd, asking this daemon.
    pub fn client(&self, args: &[&str]) -> Output {
        self.client_as(0, &[], args)
    }

    /// The same as another user, who has no capability.
    pub fn client_as(&self, user: u32, groups: &[u32], args: &[&str]) -> Output {
        self.client_command(user, groups, args).output().unwrap()
    }

    /// The same, not yet started; it becomes nettopd.
    pub fn client_command(&self, user: u32, groups: &[u32], args: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        if user != 0 {
            let id = user.to_string();
            command.args(["--reuid", &id, "--regid", &id]);
            let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
            if groups.is_empty() {
                command.arg("--clear-groups");
            } else {
                command.args(["--groups", &groups.join(",")]);
            }
        }
        command.arg(self.folder.join("nettopd")).args(args).env("NETTOPD_SOCKET", self.socket());
        command.stdin(Stdio::null());
        command
    }

    pub fn connect(&self) -> io::Result<UnixStream> {
        let stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_write_timeout(Some(Duration::from_secs(30)))?;
        Ok(stream)
    }

    /// Sends any bytes, and reads any answer.
    pub fn say(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = self.connect()?;
        // The answer may come before all is sent.
        let _ = stream.write_all(request);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        if answer.is_empty() { read.map(|_| answer) } else { Ok(answer) }
    }

    pub fn get(&self, target: &str) -> io::Result<Answer> {
        Ok(Answer::new(&self.say(&request(target))?))
    }

    /// The same without a limit on the time to answer.
    pub fn get_slowly(&self, target: &str) -> io::Result<Answer> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.write_all(&request(target))?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(Answer::new(&answer))
    }

    /// Ends it as a crash does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn request(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: n\r\n\r\n").into_bytes()
}

/// What the daemon has answered.
#[derive(Default, Debug)]
pub struct Answer {
    /// 0 where it is no answer.
    pub status: u16,
    body: String,
}

impl Answer {
    fn new(answer: &[u8]) -> Self {
        let answer = String::from_utf8_lossy(answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, body: body.to_owned() }
    }

    /// What was asked for.
    #[track_caller]
    pub fn document<T: DeserializeOwned>(&self) -> T {
        assert_eq!(self.status, 200, "{}", self.body);
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// Why it is refused.
    #[track_caller]
    pub fn error(&self) -> String {
        let document: Value = serde_json::from_str(&self.body).unwrap_or_default();
        document["error"].as_str().unwrap_or_else(|| panic!("no error: {self:?}")).to_owned()
    }
}
