//! The processes of a peer. Its command is one of the shell, which starts others, which may start more: they form a
//! group that is ended as a whole, so that nothing goes on computing when a bench is over.

use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Leaders of the groups that are alive.
static ALIVE: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// A process and those that it started. On systems without process groups there is nothing to it.
#[derive(Debug)]
pub struct Group {
    leader: u32,
}

impl Group {
    /// Lets `command` lead a group of its own. Ctrl-C at the terminal does not reach it any more.
    pub fn prepare(command: &mut Command) {
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
        #[cfg(not(unix))]
        let _ = command;
    }

    /// The group that this child of a [prepared](Self::prepare) command leads.
    pub fn of(child: &Child) -> Self {
        let leader = child.id();
        alive().push(leader);
        Self { leader }
    }

    /// Ends all that is left of it, once.
    pub fn end(&self) {
        let mut alive = alive();
        if let Some(at) = alive.iter().position(|&leader| leader == self.leader) {
            alive.swap_remove(at);
            kill(self.leader);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

/// Ends every group that is alive: for a program that ends in the middle of its work.
pub fn end_all() {
    for leader in alive().drain(..) {
        kill(leader);
    }
}

fn alive() -> MutexGuard<'static, Vec<u32>> {
    ALIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(unix)]
fn kill(leader: u32) {
    use rustix::process::{Pid, Signal, kill_process_group};

    let leader = i32::try_from(leader).ok().and_then(Pid::from_raw);
    if let Some(leader) = leader {
        // The group is that of a child of ours; an error says that nobody is left in it.
        let _ = kill_process_group(leader, Signal::KILL);
    }
}

#[cfg(not(unix))]
fn kill(_leader: u32) {}
