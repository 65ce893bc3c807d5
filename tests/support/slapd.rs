//! A directory of OpenLDAP that a test starts itself: on a port of its own, with a database in a folder of its own, ended by its
//! pid whatever happens to the test. The system's own one is left alone.

use std::{
    fmt::Write as _,
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

use super::{ports, redis::wait, tls};

pub const BASE: &str = "ou=people,dc=example,dc=org";
/// May search; nobody else may.
pub const SERVICE: (&str, &str) = ("cn=gateway,dc=example,dc=org", "hunter2");

pub struct Slapd {
    child: Child,
    directory: tempfile::TempDir,
    pub port: u16,
    /// `ldaps`.
    pub secure_port: u16,
}

/// One entry: its name and its lines, whose values may be any bytes.
pub struct Entry(pub String, pub Vec<(&'static str, Vec<u8>)>);

impl Entry {
    /// A person below the base, by the first part of the name.
    pub fn person(name: &str, uid: &[u8], password: Option<&str>) -> Self {
        let mut lines = vec![("objectClass", b"inetOrgPerson".to_vec()), ("sn", b"x".to_vec()), ("cn", b"x".to_vec())];
        lines.push(("uid", uid.to_vec()));
        lines.extend(password.map(|password| ("userPassword", password.as_bytes().to_vec())));
        Self(format!("{name},{BASE}"), lines)
    }

    pub fn with(mut self, attribute: &'static str, value: &str) -> Self {
        self.1.push((attribute, value.as_bytes().to_vec()));
        self
    }

    fn write(&self, out: &mut String) {
        let Self(name, lines) = self;
        writeln!(out, "dn:: {}", BASE64.encode(name)).expect("text");
        lines.iter().for_each(|(name, value)| writeln!(out, "{name}:: {}", BASE64.encode(value)).expect("text"));
        out.push('\n');
    }
}

impl Slapd {
    /// With these below the base; `more` stands in its configuration, ahead of the database's own.
    pub fn start(entries: &[Entry], more: &str) -> Self {
        let directory = tempfile::tempdir().expect("a folder");
        let path = directory.path();
        tls::write(path).expect("certificates");
        fs::create_dir(path.join("db")).expect("a folder");
        fs::write(path.join("slapd.conf"), config(path, more)).expect("a file");
        let mut ldif = format!(
            "dn: dc=example,dc=org\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: x\n\n\
             dn: {}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: gateway\nuserPassword: {}\n\n\
             dn: {BASE}\nobjectClass: organizationalUnit\nou: people\n\n",
            SERVICE.0, SERVICE.1
        );
        entries.iter().for_each(|entry| entry.write(&mut ldif));
        fs::write(path.join("entries.ldif"), ldif).expect("a file");
        let added = Command::new(program("slapadd"))
            .args(["-f", "slapd.conf", "-l", "entries.ldif"])
            .current_dir(path)
            .output()
            .expect("slapadd runs");
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
        let (port, secure_port) = (ports::reserve(), ports::reserve());
        let child = spawn(path, port, secure_port);
        Self { child, directory, port, secure_port }
    }

    pub fn stop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// On the same ports, with the same entries.
    pub fn restart(&mut self) {
        self.stop();
        self.child = spawn(self.directory.path(), self.port, self.secure_port);
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn config(path: &Path, more: &str) -> String {
    let path = path.display();
    format!(
        "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\n\
         include /etc/ldap/schema/inetorgperson.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n\
         pidfile {path}/slapd.pid\nargsfile {path}/slapd.args\n\
         TLSCACertificateFile {path}/certs/ca.crt\nTLSCertificateFile {path}/certs/a.crt\n\
         TLSCertificateKeyFile {path}/certs/a.key\n{more}\n\
         database mdb\nsuffix dc=example,dc=org\ndirectory {path}/db\nmaxsize 10485760\n\
         access to attrs=userPassword by anonymous auth by * none\n\
         access to * by dn.exact={} read by * none\n",
        SERVICE.0
    )
}

fn spawn(path: &Path, port: u16, secure_port: u16) -> Child {
    let addresses = format!("ldap://127.0.0.1:{port}/ ldaps://127.0.0.1:{secure_port}/");
    let log = fs::File::create(path.join("log")).expect("a file");
    let child = Command::new(program("slapd"))
        .args(["-f", "slapd.conf", "-d", "0", "-h", &addresses])
        .current_dir(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("slapd runs: `make test` installs it");
    wait("a directory", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    child
}

/// Debian keeps it where only root's shell looks.
fn program(name: &str) -> PathBuf {
    PathBuf::from("/usr/sbin").join(name)
}
