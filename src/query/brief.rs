//! Brief questions are answered where they are asked.
//!
//! A question that a thread of the network hands to one of queries, and the answer that it hands back, wake two threads. That takes longer than an answer
//! out of a cache whose plan is kept. So it is noted how long each form of question held its thread the last time, and
//! one that was brief begins on the thread that has read it, on half of these threads at the most: the others are there for everybody else.
//! What has to wait goes on on the threads of queries, and a form that turns out to be long is not tried again until it was brief there.
//! Beside heavy queries nothing is: processors are scarce then, and go first to threads that do little.
//!
//! That is an estimate of time alone: a question comes to the same answer on any thread.

use std::future::poll_fn;
use std::hash::{BuildHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hashbrown::DefaultHashBuilder;
use tokio::runtime::{Handle, Id};
use tokio::sync::Semaphore;

use super::error::QueryError;
use super::stream::{on_cpu, panic_text};
use crate::clock::Clock;

type Result<T> = std::result::Result<T, QueryError>;

/// What holds a thread of the network for no longer keeps nobody waiting who would notice. It is about what a thread takes to wake: others that sleep
/// don't always hear of what comes meanwhile.
const BRIEF: Duration = Duration::from_micros(250);

/// Longer texts may have plans so deep that only the stacks of queries hold them.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// As many forms are known; one takes the place of another.
const FORMS: usize = 4096;

/// What is done with a text.
#[derive(Debug, Clone, Copy, Hash)]
pub(super) enum Step {
    /// It is planned.
    Plan,
    /// It is planned and begins.
    Begin,
    /// A statement of InfluxQL is answered as InfluxDB 1 does.
    Answer,
}

/// Which questions were brief the last time. Shared as an `Arc`.
#[derive(Debug)]
pub(super) struct BriefQuestions {
    /// The marks of forms that were, by their lower bits.
    forms: Box<[AtomicU32]>,
    hasher: DefaultHashBuilder,
    network: Id,
    heavy: Handle,
    /// Threads of the network that may answer.
    places: Semaphore,
    clock: Arc<dyn Clock>,
}

impl BriefQuestions {
    /// Of those that are asked on the threads of `network`, while those of `heavy` queries have nothing to do.
    pub(super) fn new(network: &Handle, heavy: Handle, clock: Arc<dyn Clock>) -> Self {
        let forms = (0..FORMS).map(|_| AtomicU32::new(0)).collect();
        let places = Semaphore::new(network.metrics().num_workers() / 2);
        Self { forms, hasher: DefaultHashBuilder::default(), network: network.id(), heavy, places, clock }
    }

    /// Runs the work of a question, on a thread of `cpu` or right here. What has no text is not known again. Dropping the future ends it at its next pause.
    ///
    /// # Errors
    /// What the work says; `Internal` if it panics.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        cpu: &Handle,
        (step, database, text): (Step, &str, &str),
        mut work: Pin<Box<impl Future<Output = Result<T>> + Send + 'static>>,
    ) -> Result<T> {
        let is_asked_here = Handle::try_current().is_ok_and(|here| here.id() == self.network);
        if !is_asked_here || text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return on_cpu(cpu, work).await;
        }
        let mark = self.mark(step, database, text);
        let is_tried = self.is_brief(mark) && self.heavy.metrics().num_alive_tasks() == 0;
        if is_tried && let Ok(_place) = self.places.try_acquire() {
            let began = self.clock.elapsed();
            let result = poll_fn(|context| Poll::Ready(here(cpu, work.as_mut(), context))).await;
            // What waits is longer than anybody knows.
            let took = result.as_ref().map_or(Duration::MAX, |_| self.clock.elapsed().saturating_sub(began));
            self.note(mark, took);
            if let Some(result) = result {
                return result;
            }
        }
        let brief = Arc::clone(self);
        let timed = async move {
            let began = brief.clock.elapsed();
            let result = work.await;
            if !is_tried {
                brief.note(mark, brief.clock.elapsed().saturating_sub(began));
            }
            result
        };
        on_cpu(cpu, timed).await
    }

    /// What a form of question is known by, which is never 0. Texts that differ in numbers and quoted texts alone are of one form.
    fn mark(&self, step: Step, database: &str, text: &str) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        (step, database).hash(&mut hasher);
        for unquoted in text.split('\'').step_by(2) {
            for part in unquoted.split(|char: char| char.is_ascii_digit()).filter(|part| !part.is_empty()) {
                hasher.write(part.as_bytes());
            }
        }
        (hasher.finish() as u32).max(1)
    }

    fn form(&self, mark: u32) -> &AtomicU32 {
        &self.forms[mark as usize % FORMS]
    }

    fn is_brief(&self, mark: u32) -> bool {
        self.form(mark).load(Ordering::Relaxed) == mark
    }

    fn note(&self, mark: u32, took: Duration) {
        if took <= BRIEF {
            self.form(mark).store(mark, Ordering::Relaxed);
        } else if self.is_brief(mark) {
            self.form(mark).store(0, Ordering::Relaxed);
        }
    }
}

/// Does what can be done of the work without waiting, as if it were a thread of `cpu`: what the work starts besides, it starts there. `None` if there
/// is more to it.
fn here<T>(
    cpu: &Handle,
    work: Pin<&mut impl Future<Output = Result<T>>>,
    context: &mut Context<'_>,
) -> Option<Result<T>> {
    let _here = cpu.enter();
    match catch_unwind(AssertUnwindSafe(|| work.poll(context))) {
        Ok(Poll::Ready(result)) => Some(result),
        Ok(Poll::Pending) => None,
        Err(panic) => Some(Err(QueryError::Panicked(panic_text(panic.as_ref())))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use tokio::runtime::{Builder, Runtime};
    use tokio::sync::oneshot;

    use super::*;
    use crate::clock::ManualClock;
    use crate::model::Timestamp;

    const QUESTION: (Step, &str, &str) = (Step::Begin, "db", "SELECT 1");

    /// Threads of the network and of queries, and time that passes only when told.
    struct Fixture {
        brief: Arc<BriefQuestions>,
        network: Runtime,
        cpu: Runtime,
        heavy: Runtime,
        clock: Arc<ManualClock>,
    }

    impl Fixture {
        fn new(threads: usize) -> Self {
            let runtime = |name: &str, threads| {
                Builder::new_multi_thread().worker_threads(threads).thread_name(name).build().unwrap()
            };
            let (network, cpu, heavy) = (runtime("network", threads), runtime("queries", 1), runtime("heavy", 1));
            let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(0)));
            let told: Arc<dyn Clock> = Arc::clone(&clock) as Arc<dyn Clock>;
            let brief = Arc::new(BriefQuestions::new(network.handle(), heavy.handle().clone(), told));
            Self { brief, network, cpu, heavy, clock }
        }

        /// What the work of a question says that is asked on a thread of the network.
        fn ask<T: Send + 'static>(
            &self,
            question: (Step, &'static str, &'static str),
            work: impl Future<Output = Result<T>> + Send + 'static,
        ) -> Result<T> {
            let (brief, cpu) = (Arc::clone(&self.brief), self.cpu.handle().clone());
            let asked = self.network.spawn(async move { brief.run(&cpu, question, Box::pin(work)).await });
            self.network.block_on(asked).unwrap()
        }

        /// Where a question is answered that takes so long.
        fn place(&self, question: (Step, &'static str, &'static str), takes: Duration) -> String {
            let clock = Arc::clone(&self.clock);
            let work = async move {
                clock.advance(takes);
                Ok(thread_name())
            };
            self.ask(question, work).unwrap()
        }
    }

    fn thread_name() -> String {
        thread::current().name().unwrap_or_default().to_owned()
    }

    #[test]
    fn what_was_brief_is_answered_where_it_is_asked_until_it_is_long() {
        let fixture = Fixture::new(2);
        let places = [BRIEF, BRIEF, 2 * BRIEF, 2 * BRIEF, BRIEF, BRIEF].map(|takes| fixture.place(QUESTION, takes));
        assert_eq!(places, ["queries", "network", "network", "queries", "queries", "network"]);
    }

    #[test]
    fn of_one_form_are_texts_that_differ_in_numbers_and_quoted_texts() {
        let fixture = Fixture::new(2);
        let text = "SELECT max(v) FROM cpu WHERE host = 'a' AND time > '2024-01-01' LIMIT 5";
        let other = "SELECT max(v) FROM cpu WHERE host = 'host_10' AND time > '2024-05-01T12' LIMIT 15";
        fixture.place((Step::Begin, "db", text), Duration::ZERO);
        assert_eq!(fixture.place((Step::Begin, "db", other), Duration::ZERO), "network");
        let long = "SELECT max(v) FROM mem WHERE host = 'a' AND time > '2024-01-01' LIMIT 5";
        for question in [(Step::Plan, "db", text), (Step::Begin, "another", text), (Step::Begin, "db", long)] {
            assert_eq!(fixture.place(question, Duration::ZERO), "queries", "{question:?}");
        }
    }

    #[test]
    fn half_of_the_network_is_there_for_others() {
        let fixture = Fixture::new(2);
        fixture.place(QUESTION, Duration::ZERO);
        let (is_in, goes_on) = (mpsc::channel(), mpsc::channel());
        let holding = async move {
            is_in.0.send(thread_name()).unwrap();
            goes_on.1.recv().unwrap();
            Ok(())
        };
        let (brief, cpu) = (Arc::clone(&fixture.brief), fixture.cpu.handle().clone());
        let asked = fixture.network.spawn(async move { brief.run(&cpu, QUESTION, Box::pin(holding)).await });
        assert_eq!(is_in.1.recv().unwrap(), "network");
        assert_eq!(fixture.place(QUESTION, Duration::ZERO), "queries");
        goes_on.0.send(()).unwrap();
        fixture.network.block_on(asked).unwrap().unwrap();
        assert_eq!(fixture.place(QUESTION, Duration::ZERO), "network");

        let alone = Fixture::new(1);
        let places = [(); 2].map(|()| alone.place(QUESTION, Duration::ZERO));
        assert_eq!(places, ["queries", "queries"]);
    }

    #[test]
    fn beside_heavy_queries_all_are_answered_elsewhere() {
        let fixture = Fixture::new(2);
        fixture.place(QUESTION, Duration::ZERO);
        let heavy = fixture.heavy.spawn(std::future::pending::<()>());
        let places = [(); 2].map(|()| fixture.place(QUESTION, Duration::ZERO));
        assert_eq!(places, ["queries", "queries"]);
        heavy.abort();
        while fixture.heavy.metrics().num_alive_tasks() > 0 {
            thread::yield_now();
        }
        assert_eq!(fixture.place(QUESTION, Duration::ZERO), "network");
    }

    #[test]
    fn what_waits_goes_on_on_the_threads_of_queries() {
        let fixture = Fixture::new(2);
        fixture.place(QUESTION, Duration::ZERO);
        let (sender, receiver) = oneshot::channel();
        let work = async move {
            let began = thread_name();
            // Nobody else can send it: what is started goes to the threads of queries.
            tokio::spawn(async move { sender.send(thread_name()).unwrap() });
            Ok([began, receiver.await.unwrap(), thread_name()])
        };
        assert_eq!(fixture.ask(QUESTION, work).unwrap(), ["network", "queries", "queries"]);
        assert_eq!(fixture.place(QUESTION, Duration::ZERO), "queries", "nobody knows how long it takes");
    }

    #[test]
    fn a_panic_is_an_error_and_keeps_no_place() {
        let fixture = Fixture::new(2);
        fixture.place(QUESTION, Duration::ZERO);
        for _ in 0..3 {
            let panicking = async { if thread_name() == "network" { panic!("lost") } else { Ok(()) } };
            let error = fixture.ask(QUESTION, panicking).unwrap_err();
            assert!(matches!(&error, QueryError::Panicked(text) if text == "lost"), "{error:?}");
        }
        assert_eq!(fixture.place(QUESTION, Duration::ZERO), "network");
    }

    #[test]
    fn a_text_that_may_be_deep_needs_a_deep_stack() {
        let fixture = Fixture::new(2);
        let text: &'static str = Box::leak(format!("SELECT {}", "(".repeat(TEXT_BYTES_MAX)).into_boxed_str());
        let places = [(); 2].map(|()| fixture.place((Step::Begin, "db", text), Duration::ZERO));
        assert_eq!(places, ["queries", "queries"]);
    }
}
