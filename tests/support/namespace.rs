//! A network of its own for a server, from which it can be cut off: what is sent is dropped, and nobody is told.

use std::process::Command;

/// Gone with everything in it when it is dropped.
pub struct Namespace {
    name: String,
    ours: String,
    /// The address of what runs in it.
    pub address: String,
}

impl Namespace {
    /// # Errors
    /// Why this machine lets us make none.
    pub fn make() -> Result<Self, String> {
        let id = std::process::id() % 0x4000;
        let [high, low] = (id as u16 * 4).to_be_bytes();
        let (ours, address) = (format!("10.213.{high}.{}", low + 1), format!("10.213.{high}.{}", low + 2));
        let name = format!("rw{id}");
        let (near, far) = (format!("{name}a"), format!("{name}b"));
        let made = Self { name: name.clone(), ours: ours.clone(), address: address.clone() };
        ip(&["netns", "add", &name])?;
        ip(&["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", &name])?;
        ip(&["addr", "add", &format!("{ours}/30"), "dev", &near])?;
        ip(&["link", "set", &near, "up"])?;
        made.within(&["addr", "add", &format!("{address}/30"), "dev", &far])?;
        made.within(&["link", "set", &far, "up"])?;
        Ok(made)
    }

    /// Ahead of a command that is to run in it.
    pub fn prefix(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.name]
    }

    /// Nothing that is sent from there arrives, nor is anybody told so.
    pub fn set_cut(&self, is_cut: bool) {
        let verb = if is_cut { "add" } else { "del" };
        self.within(&["route", verb, "blackhole", &format!("{}/32", self.ours)]).expect("a route");
    }

    fn within(&self, arguments: &[&str]) -> Result<(), String> {
        ip(&[&["-n", &self.name], arguments].concat())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // With one end of the pair goes the other. It may not have come that far.
        let _ = ip(&["link", "del", &format!("{}a", self.name)]);
        let _ = ip(&["netns", "del", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).output().map_err(|error| format!("ip: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim())),
    }
}
