//! The herder's decisions: what has changed goes in, commands come out. No clock, no I/O.

use std::collections::BTreeSet;

use crate::config_state::{Change, ConfigState, RestartRequest};
use crate::ids::{ConnectorName, TaskId};
use crate::membership::Load;
use crate::membership::blob::Assignment;

/// What the driver is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    StopConnector(ConnectorName),
    StopTasks(Vec<TaskId>),
    StartConnector(ConnectorName),
    StartTask(TaskId),
    /// Pause, resume or stop what runs of this connector here.
    ApplyTarget(ConnectorName),
    /// Restart what the plan says of this connector here.
    Restart(RestartRequest),
    /// Forget statuses of tasks that are no more.
    ForgetTasks(Vec<TaskId>),
    /// Forget all that is known of a connector that is no more.
    ForgetConnector(ConnectorName),
    /// Join the group again at once: others wait for what was stopped here.
    Rejoin,
    /// Join the group again, unless a round has seen the present config topic: there is something to share out.
    ShareOut,
}

/// What runs here and why.
#[derive(Debug)]
pub struct Core {
    /// What this worker is to run.
    assigned: Load,
    /// What has been started and not stopped; failed ones count.
    running: Load,
    /// All tasks of the group as of the last look: a change in them is a reason to share out again.
    known: Load,
    leads: bool,
    /// The group may have given what is assigned to others: until the next round nothing of it is started.
    suspended: bool,
    /// Whether new task configurations fence the producers of all tasks, changed or not.
    restart_all: bool,
}

impl Core {
    /// Nothing runs; `config` is what the first round of the group will share out.
    pub fn new(config: &ConfigState) -> Self {
        Self {
            assigned: Load::default(),
            running: Load::default(),
            known: Self::everything(config),
            leads: false,
            suspended: false,
            restart_all: false,
        }
    }

    /// With exactly-once sources all tasks of a connector restart together.
    pub fn restart_all_tasks(&mut self) {
        self.restart_all = true;
    }

    /// What this worker holds, for the next time it joins.
    pub fn assigned(&self) -> &Load {
        &self.assigned
    }

    #[cfg(test)]
    pub fn running(&self) -> &Load {
        &self.running
    }

    fn everything(config: &ConfigState) -> Load {
        Load {
            connectors: config.connectors().into_iter().collect(),
            tasks: config.all_tasks().into_iter().collect(),
        }
    }

    /// The config topic has changed.
    pub fn on_changes(&mut self, config: &ConfigState, changes: Vec<Change>) -> Vec<Command> {
        let mut commands = Vec::new();
        for change in changes {
            match change {
                Change::ConnectorUpdated(name) => {
                    if self.running.connectors.contains(&name) && config.contains(&name) {
                        commands.push(Command::StopConnector(name.clone()));
                        commands.push(Command::StartConnector(name));
                    }
                }
                Change::ConnectorRemoved(name) => {
                    if self.leads && !config.contains(&name) {
                        commands.push(Command::ForgetConnector(name));
                    }
                }
                Change::TasksUpdated(name, changed) => {
                    let changed = if self.restart_all { config.tasks(&name) } else { changed };
                    self.on_tasks(config, &changed, &mut commands);
                }
                Change::TargetState(name) => commands.push(Command::ApplyTarget(name)),
                Change::Restart(request) => commands.push(Command::Restart(request)),
                Change::SessionKey | Change::LoggerLevel { .. } => {}
            }
        }
        let everything = Self::everything(config);
        if everything != self.known {
            let gone = self.known.without(&everything);
            if self.leads && !gone.tasks.is_empty() {
                let tasks = gone.tasks.into_iter().filter(|id| config.contains(&id.connector)).collect();
                commands.push(Command::ForgetTasks(tasks));
            }
            self.known = everything;
            commands.push(Command::ShareOut);
        }
        commands
    }

    /// New task configurations are in force: those that run here are restarted; no one else is disturbed.
    fn on_tasks(&mut self, config: &ConfigState, written: &[TaskId], commands: &mut Vec<Command>) {
        let here: Vec<TaskId> =
            written.iter().filter(|id| self.running.tasks.contains(id)).cloned().collect();
        if !here.is_empty() {
            commands.push(Command::StopTasks(here));
        }
        if self.suspended {
            // The next round starts them, here or elsewhere.
            return;
        }
        written
            .iter()
            .filter(|id| self.assigned.tasks.contains(id) && config.task_config(id).is_some())
            .for_each(|id| commands.push(Command::StartTask(id.clone())));
    }

    /// With the eager protocol everything stops before a worker joins again.
    pub fn on_prepare(&mut self) -> Vec<Command> {
        self.assigned = Load::default();
        Self::stop(&self.running)
    }

    /// The group may have given what runs here to others, or may not: it stops, and starts again where the next round leaves
    /// it here.
    pub fn on_suspend(&mut self) -> Vec<Command> {
        self.leads = false;
        self.suspended = true;
        Self::stop(&self.running)
    }

    /// The group has shared out; `config` goes at least as far as the assignment.
    pub fn on_assignment(
        &mut self,
        config: &ConfigState,
        assignment: &Assignment,
        eager: bool,
        leads: bool,
    ) -> Vec<Command> {
        self.leads = leads;
        self.suspended = false;
        if eager {
            self.assigned = assignment.assigned.clone();
        } else {
            self.assigned.remove(&assignment.revoked);
            self.assigned.add(&assignment.assigned);
        }
        let mut commands = Self::stop(&self.running.without(&self.assigned));
        let missing = self.assigned.without(&self.running);
        let connectors = missing.connectors.into_iter().filter(|name| config.contains(name));
        commands.extend(connectors.map(Command::StartConnector));
        let tasks = missing.tasks.into_iter().filter(|id| config.task_config(id).is_some());
        commands.extend(tasks.map(Command::StartTask));
        if !assignment.revoked.is_empty() && !eager {
            // What was taken away here can be given to others in the next round.
            commands.push(Command::Rejoin);
        }
        commands
    }

    fn stop(load: &Load) -> Vec<Command> {
        let mut commands: Vec<Command> =
            load.connectors.iter().cloned().map(Command::StopConnector).collect();
        if !load.tasks.is_empty() {
            commands.push(Command::StopTasks(load.tasks.iter().cloned().collect()));
        }
        commands
    }

    /// The worker ends: everything stops.
    pub fn on_shutdown(&mut self) -> Vec<Command> {
        self.assigned = Load::default();
        Self::stop(&self.running)
    }

    /// The driver has started or stopped something.
    pub fn connector_started(&mut self, name: &ConnectorName) {
        self.running.connectors.insert(name.clone());
    }

    pub fn connector_stopped(&mut self, name: &ConnectorName) {
        self.running.connectors.remove(name);
    }

    pub fn task_started(&mut self, id: &TaskId) {
        self.running.tasks.insert(id.clone());
    }

    pub fn tasks_stopped(&mut self, ids: &[TaskId]) {
        let ids: BTreeSet<&TaskId> = ids.iter().collect();
        self.running.tasks.retain(|id| !ids.contains(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(config: &mut ConfigState, key: &str, value: Option<&str>) -> Vec<Change> {
        let offset = config.offset();
        config
            .apply(offset, key.as_bytes(), value.map(str::as_bytes))
            .expect("readable")
            .into_iter()
            .collect()
    }

    /// Carries commands out at once.
    fn carry_out(core: &mut Core, commands: &[Command]) {
        for command in commands {
            match command {
                Command::StartConnector(name) => core.connector_started(name),
                Command::StopConnector(name) => core.connector_stopped(name),
                Command::StartTask(id) => core.task_started(id),
                Command::StopTasks(ids) => core.tasks_stopped(ids),
                _ => {}
            }
        }
    }

    fn assign_all(core: &mut Core, config: &ConfigState) -> Vec<Command> {
        let all = Core::everything(config);
        let mut assignment = Assignment::empty("l", "u", config.offset());
        assignment.assigned = all.without(core.assigned());
        assignment.revoked = core.assigned().without(&all);
        let commands = core.on_assignment(config, &assignment, false, true);
        carry_out(core, &commands);
        commands
    }

    fn running(tasks: u32) -> (Core, ConfigState) {
        let mut config = ConfigState::default();
        let mut core = Core::new(&config);
        assign_all(&mut core, &config);
        let changes = put(&mut config, "connector-c", Some(r#"{"properties":{}}"#));
        assert_eq!(core.on_changes(&config, changes), [Command::ShareOut]);
        assert_eq!(assign_all(&mut core, &config), [Command::StartConnector("c".into())]);
        let commands = write_tasks(&mut core, &mut config, tasks);
        assert_eq!(commands, [Command::ShareOut]);
        assert_eq!(assign_all(&mut core, &config).len(), tasks as usize);
        (core, config)
    }

    fn write_tasks(core: &mut Core, config: &mut ConfigState, count: u32) -> Vec<Command> {
        for task in 0..count {
            let value = format!(r#"{{"properties":{{"at":"{}"}}}}"#, config.offset());
            put(config, &format!("task-c-{task}"), Some(&value));
        }
        let changes = put(config, "commit-c", Some(&format!(r#"{{"tasks":{count}}}"#)));
        let commands = core.on_changes(config, changes);
        carry_out(core, &commands);
        commands
    }

    #[test]
    fn reconfigured_tasks_restart_without_a_rebalance() {
        let (mut core, mut config) = running(2);
        let commands = write_tasks(&mut core, &mut config, 2);
        let tasks = vec![TaskId::new("c", 0), TaskId::new("c", 1)];
        assert_eq!(
            commands,
            [
                Command::StopTasks(tasks.clone()),
                Command::StartTask(tasks[0].clone()),
                Command::StartTask(tasks[1].clone())
            ]
        );
    }

    #[test]
    fn stopping_takes_the_tasks_away() {
        let (mut core, mut config) = running(1);
        let commands = write_tasks(&mut core, &mut config, 0);
        assert_eq!(commands, [Command::ForgetTasks(vec![TaskId::new("c", 0)]), Command::ShareOut]);
        let commands = assign_all(&mut core, &config);
        assert_eq!(commands, [Command::StopTasks(vec![TaskId::new("c", 0)]), Command::Rejoin]);
        assert!(core.running().tasks.is_empty());
    }

    #[test]
    fn a_new_configuration_restarts_the_connector_alone() {
        let (mut core, mut config) = running(1);
        let changes = put(&mut config, "connector-c", Some(r#"{"properties":{"a":"b"}}"#));
        assert_eq!(
            core.on_changes(&config, changes),
            [Command::StopConnector("c".into()), Command::StartConnector("c".into())]
        );
    }

    #[test]
    fn a_deleted_connector_is_stopped_and_forgotten() {
        let (mut core, mut config) = running(1);
        let changes = put(&mut config, "connector-c", None);
        let commands = core.on_changes(&config, changes);
        assert_eq!(commands.first(), Some(&Command::ForgetConnector("c".into())));
        assert_eq!(commands.last(), Some(&Command::ShareOut));
        let commands = assign_all(&mut core, &config);
        assert!(commands.contains(&Command::StopConnector("c".into())), "{commands:?}");
        assert!(core.running().is_empty());
    }

    #[test]
    fn what_is_suspended_starts_again_unless_it_was_given_away() {
        let (mut core, config) = running(2);
        let commands = core.on_suspend();
        carry_out(&mut core, &commands);
        assert!(core.running().is_empty());
        assert_eq!(core.assigned().tasks.len(), 2, "it is still claimed");
        let mut assignment = Assignment::empty("l", "u", config.offset());
        assignment.revoked.tasks.insert(TaskId::new("c", 1));
        let commands = core.on_assignment(&config, &assignment, false, false);
        assert_eq!(
            commands,
            [Command::StartConnector("c".into()), Command::StartTask(TaskId::new("c", 0)), Command::Rejoin]
        );
    }

    #[test]
    fn what_is_reconfigured_while_suspended_starts_in_the_next_round() {
        let (mut core, mut config) = running(2);
        let commands = core.on_suspend();
        carry_out(&mut core, &commands);
        assert!(write_tasks(&mut core, &mut config, 2).is_empty(), "another worker may run them by now");
        let mut assignment = Assignment::empty("l", "u", config.offset());
        assignment.revoked.tasks.insert(TaskId::new("c", 1));
        let commands = core.on_assignment(&config, &assignment, false, false);
        assert_eq!(
            commands,
            [Command::StartConnector("c".into()), Command::StartTask(TaskId::new("c", 0)), Command::Rejoin]
        );
        carry_out(&mut core, &commands);
        assert_eq!(write_tasks(&mut core, &mut config, 2).len(), 2, "stopped and started here");
    }

    #[test]
    fn eager_rebalances_stop_everything_first() {
        let (mut core, config) = running(1);
        let commands = core.on_prepare();
        carry_out(&mut core, &commands);
        assert!(core.running().is_empty());
        let mut assignment = Assignment::empty("l", "u", config.offset());
        assignment.assigned.tasks.insert(TaskId::new("c", 0));
        let commands = core.on_assignment(&config, &assignment, true, false);
        assert_eq!(commands, [Command::StartTask(TaskId::new("c", 0))]);
    }
}
