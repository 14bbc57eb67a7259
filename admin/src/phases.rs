//! Runs a verb: its phases in order, each for all named resources.
//!
//! A resource which fails is left out of the later phases, the others go on; the exit code reports it. What a phase has queued is
//! set in one step when it ends. A phase that has to wait is repeated until it succeeds or `--timeout` is over, which is an
//! error here (the original only warned and exited 0).
//!
//! Manual: "Phases of a command".

use std::time::Duration;

use crate::gate;
use crate::hooks;
use crate::session::{Refusal, Session, refuse};
use crate::verbs::{Body, Verb};

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It has been done.
    Done,
    /// Not yet; ask again when the tree has changed. Only phases with [`How::Repeat`] may answer so.
    NotYet,
}

/// What a step answers.
pub type Step = Result<Progress, Refusal>;

/// A step of a verb for one resource (the empty text where there is none, or where all are meant at once).
pub type StepFn = fn(&mut Session<'_>, &str) -> Step;

/// How a phase is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Once per resource.
    Each,
    /// Once per resource, again and again until it succeeds or the time is over.
    Repeat,
    /// Once, not per resource.
    Global,
    /// Once, not per resource, without a number of its own.
    Between,
}

/// One step of the way, as the operator sees it.
pub struct Phase {
    /// Headline.
    pub head: &'static str,
    /// Once or repeatedly, per resource or not.
    pub how: How,
    /// What it does.
    pub run: StepFn,
    /// What undoes the phases before when this one runs out of time.
    pub give_up: Option<StepFn>,
}

/// A phase run once per resource.
pub const fn each(head: &'static str, run: StepFn) -> Phase {
    Phase {
        head,
        how: How::Each,
        run,
        give_up: None,
    }
}

/// A phase repeated until it succeeds.
pub const fn repeat(head: &'static str, run: StepFn) -> Phase {
    Phase {
        head,
        how: How::Repeat,
        run,
        give_up: None,
    }
}

/// A phase repeated until it succeeds; `give_up` is called when the time is over.
pub const fn repeat_or(head: &'static str, run: StepFn, give_up: StepFn) -> Phase {
    Phase {
        head,
        how: How::Repeat,
        run,
        give_up: Some(give_up),
    }
}

/// A phase run once for all resources.
pub const fn global(head: &'static str, run: StepFn) -> Phase {
    Phase {
        head,
        how: How::Global,
        run,
        give_up: None,
    }
}

/// A step between the phases, without a headline.
pub const fn between(run: StepFn) -> Phase {
    Phase {
        head: "",
        how: How::Between,
        run,
        give_up: None,
    }
}

/// The resources a command works on.
pub struct Targets {
    /// Names, in natural order; one empty name for commands without a resource.
    pub names: Vec<String>,
    /// Whether they come from `all` or a comma list: then each one is announced.
    pub is_list: bool,
}

struct Runner<'v> {
    verb: &'v Verb,
    targets: Targets,
    phase_nr: u32,
    gated: Vec<String>,
}

/// Runs the verb for the targets. Errors are counted in the session.
pub fn run(s: &mut Session<'_>, verb: &Verb, targets: Targets) -> Result<(), Refusal> {
    let had_targets = targets.names.len();
    let mut runner = Runner {
        verb,
        targets,
        phase_nr: 0,
        gated: Vec::new(),
    };
    if runner.targets.is_list {
        hooks::run(s, verb, "hook-all-pre", "all")?;
    }
    match verb.body {
        Body::Once(run) => runner.run_phase(s, &each("", run))?,
        Body::Phases(phases) => {
            for phase in phases {
                // Where no resource was meant at all, there is still the work for all of them at once.
                if had_targets == 0 && phase.how != How::Global {
                    runner.phase_nr += u32::from(phase.how != How::Between);
                    continue;
                }
                runner.run_phase(s, phase)?;
                if had_targets > 0 && runner.targets.names.is_empty() {
                    break;
                }
            }
        }
    }
    runner.run_post_hooks(s)?;
    if had_targets > 1 && runner.targets.names.is_empty() {
        return refuse("all resources have errors");
    }
    Ok(())
}

impl Runner<'_> {
    fn run_post_hooks(&mut self, s: &mut Session<'_>) -> Result<(), Refusal> {
        for name in self.targets.names.clone() {
            if let Err(refusal) = hooks::run(s, self.verb, "hook-post", &name) {
                self.fail(s, &name, &refusal);
            }
        }
        match self.targets.is_list {
            true => hooks::run(s, self.verb, "hook-all-post", "all"),
            false => Ok(()),
        }
    }

    fn run_phase(&mut self, s: &mut Session<'_>, phase: &Phase) -> Result<(), Refusal> {
        self.headline(s, phase)?;
        if self.phase_nr > 1 {
            s.refresh()?;
        }
        match phase.how {
            How::Global | How::Between => {
                let only = match &self.targets.names[..] {
                    [only] => only.clone(),
                    _ => String::new(),
                };
                (phase.run)(s, &only)?;
            }
            How::Each => {
                self.round(s, phase, &mut Vec::new())?;
            }
            How::Repeat => self.repeat(s, phase)?,
        }
        s.flush()
    }

    fn headline(&mut self, s: &mut Session<'_>, phase: &Phase) -> Result<(), Refusal> {
        if phase.how == How::Between {
            return Ok(());
        }
        self.phase_nr += 1;
        if phase.head.is_empty() {
            return Ok(());
        }
        let global = if phase.how == How::Global {
            "GLOBAL "
        } else {
            ""
        };
        let headline = format!(
            "-------- {global}PHASE {} -------- {}:",
            self.phase_nr, phase.head
        );
        if s.options.singlestep
            && !s.wait_for_return(&format!("{headline} press RETURN to go on\n"))
        {
            return refuse("--singlestep needs a terminal where somebody presses RETURN");
        }
        s.say(headline);
        Ok(())
    }

    /// One turn over all resources. Those which are not yet done are put into `waiting`; those which failed are dropped.
    fn round(
        &mut self,
        s: &mut Session<'_>,
        phase: &Phase,
        waiting: &mut Vec<String>,
    ) -> Result<(), Refusal> {
        for name in self.targets.names.clone() {
            if self.targets.is_list && self.announces(s) {
                gate::announce(s, &name);
            }
            match self.step(s, phase, &name) {
                Ok(Progress::Done) => {}
                Ok(Progress::NotYet) => waiting.push(name),
                Err(refusal) => self.drop_out(s, phase, &name, refusal)?,
            }
        }
        Ok(())
    }

    /// A resource was refused. In a repeated phase its earlier phases are undone; there the refusal of a single resource ends the
    /// command without the line `FAILURE`.
    fn drop_out(
        &mut self,
        s: &mut Session<'_>,
        phase: &Phase,
        name: &str,
        refusal: Refusal,
    ) -> Result<(), Refusal> {
        let ends_all = phase.how == How::Repeat && !self.targets.is_list;
        s.release(true);
        s.drop_queue();
        if !ends_all {
            self.fail(s, name, &refusal);
        }
        if let Some(give_up) = phase.give_up {
            give_up(s, name)?;
        }
        if ends_all { Err(refusal) } else { Ok(()) }
    }

    fn announces(&self, s: &Session<'_>) -> bool {
        !self.verb.name.starts_with("log-") || s.options.verbose > 0
    }

    fn step(&mut self, s: &mut Session<'_>, phase: &Phase, name: &str) -> Step {
        if !self.gated.iter().any(|gated| gated == name) {
            self.gated.push(name.to_owned());
            if let Some(real) = gate::pass(s, self.verb, name)? {
                self.rename(name, &real);
                return self.step(s, phase, &real);
            }
            hooks::run(s, self.verb, "hook-pre", name)?;
        }
        if s.options.error_injection_phase == self.phase_nr {
            let cmd = s.command.clone();
            return refuse(format!(
                "ERROR INJECTION cmd='{cmd}' res='{name}' phase='{}'",
                self.phase_nr
            ));
        }
        let progress = (phase.run)(s, name)?;
        if phase.how == How::Each {
            s.flush()?;
        }
        Ok(progress)
    }

    /// The operator named a device; from here on the command works on its resource.
    fn rename(&mut self, name: &str, real: &str) {
        for target in self
            .targets
            .names
            .iter_mut()
            .filter(|target| *target == name)
        {
            *target = real.to_owned();
        }
    }

    fn fail(&mut self, s: &mut Session<'_>, name: &str, refusal: &Refusal) {
        s.dying(refusal);
        s.say(format!("FAILURE cmd='{}' res='{name}'", s.command));
        s.errors += 1;
        self.targets.names.retain(|target| target != name);
    }

    fn repeat(&mut self, s: &mut Session<'_>, phase: &Phase) -> Result<(), Refusal> {
        let began = s.daemon.elapsed();
        let mut spoken = began;
        loop {
            let mut waiting = Vec::new();
            self.round(s, phase, &mut waiting)?;
            s.release(waiting.is_empty());
            s.flush()?;
            if waiting.is_empty() {
                return Ok(());
            }
            let now = s.daemon.elapsed();
            let next = (spoken + Duration::from_secs(1)).saturating_sub(now);
            s.pause(next)?;
            let now = s.daemon.elapsed();
            if s.options.timeout.is_over(now.saturating_sub(began)) {
                return self.time_is_over(s, phase, &waiting);
            }
            if now.saturating_sub(spoken) >= Duration::from_secs(1) {
                spoken = now;
            } else {
                s.hold();
            }
        }
    }

    fn time_is_over(
        &mut self,
        s: &mut Session<'_>,
        phase: &Phase,
        waiting: &[String],
    ) -> Result<(), Refusal> {
        let timeout = s.options.timeout;
        let names = waiting.join(",");
        s.warn(format!(
            "Condition '{}' for resources '{names}' not reached within {timeout} s",
            phase.head
        ));
        s.errors += 1;
        for name in waiting {
            if let Some(give_up) = phase.give_up {
                give_up(s, name)?;
            }
            self.targets.names.retain(|target| target != name);
        }
        Ok(())
    }
}
