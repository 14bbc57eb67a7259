//! Requests the device has not answered yet.
//!
//! A connection is one task with many futures inside. Polling all of them at every wake-up would
//! cost the square of the queue depth, so each place has a waker of its own that notes its number;
//! only those are polled. Places and wakers are reused, nothing is allocated per request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use parking_lot::Mutex;

use super::device::{DeviceError, Extent};
use crate::ports::BoxFuture;

/// Work of a device that is not finished.
pub enum Work {
    /// Ends without data.
    Plain(BoxFuture<'static, Result<(), DeviceError>>),
    /// Ends with bytes read.
    Read(BoxFuture<'static, Result<Bytes, DeviceError>>),
    /// Ends with extents.
    Map(BoxFuture<'static, Result<Vec<Extent>, DeviceError>>),
}

/// What a device answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Plain,
    /// Bytes read.
    Read(Bytes),
    /// What is allocated.
    Map(Vec<Extent>),
}

impl Work {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Outcome, DeviceError>> {
        match self {
            Work::Plain(work) => work.as_mut().poll(cx).map_ok(|()| Outcome::Plain),
            Work::Read(work) => work.as_mut().poll(cx).map_ok(Outcome::Read),
            Work::Map(work) => work.as_mut().poll(cx).map_ok(Outcome::Map),
        }
    }
}

/// A request, as much of it as its reply needs, with the work.
struct Place<A> {
    occupied: Option<(A, Work)>,
    note: Arc<Note>,
    waker: Waker,
}

/// Wakes one place.
struct Note {
    place: usize,
    noted: AtomicBool,
    bell: Arc<Bell>,
}

/// Shared by all places of a connection.
#[derive(Default)]
struct Bell {
    woken: Mutex<Vec<usize>>,
    task: Mutex<Option<Waker>>,
}

impl Wake for Note {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.note() {
            return;
        }
        let task = self.bell.task.lock().clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl Note {
    /// Notes the place for the next round; `false` if it was noted already.
    fn note(&self) -> bool {
        let first = !self.noted.swap(true, Ordering::AcqRel);
        if first {
            self.bell.woken.lock().push(self.place);
        }
        first
    }
}

/// All unanswered requests of one connection; `A` is what is kept of a request for its reply.
pub struct InFlight<A> {
    places: Vec<Place<A>>,
    free: Vec<usize>,
    bell: Arc<Bell>,
    /// Woken places on their way through [`InFlight::collect`]; kept to reuse its memory.
    round: Vec<usize>,
}

impl<A> Default for InFlight<A> {
    fn default() -> Self {
        InFlight {
            places: Vec::new(),
            free: Vec::new(),
            bell: Arc::default(),
            round: Vec::new(),
        }
    }
}

impl<A> InFlight<A> {
    /// How many requests are unanswered.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether every request is answered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes over unfinished work. The caller has to call [`InFlight::collect`] afterwards, which
    /// polls it for the first time; nobody is woken for that.
    pub fn add(&mut self, asked: A, work: Work) {
        let number = self.free.pop().unwrap_or_else(|| self.new_place());
        let place = &mut self.places[number];
        place.occupied = Some((asked, work));
        place.note.note();
    }

    fn new_place(&mut self) -> usize {
        let place = self.places.len();
        let bell = Arc::clone(&self.bell);
        let note = Arc::new(Note {
            place,
            noted: AtomicBool::new(false),
            bell,
        });
        let waker = Waker::from(Arc::clone(&note));
        self.places.push(Place {
            occupied: None,
            note,
            waker,
        });
        place
    }

    /// Hands every request that is answered by now to `done`, and sees to it that `cx` is woken
    /// for the others.
    pub fn collect(
        &mut self,
        cx: &Context<'_>,
        mut done: impl FnMut(A, Result<Outcome, DeviceError>),
    ) {
        self.wake_me(cx);
        let mut round = std::mem::take(&mut self.round);
        std::mem::swap(&mut round, &mut self.bell.woken.lock());
        for place in round.drain(..) {
            self.poll_place(place, &mut done);
        }
        self.round = round;
    }

    fn wake_me(&self, cx: &Context<'_>) {
        let mut task = self.bell.task.lock();
        if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
    }

    fn poll_place(
        &mut self,
        number: usize,
        done: &mut impl FnMut(A, Result<Outcome, DeviceError>),
    ) {
        let place = &mut self.places[number];
        // Before the poll: a wake-up during it must be noted again.
        place.note.noted.store(false, Ordering::Release);
        let Some((_, work)) = &mut place.occupied else {
            // A late wake-up of work that ended already.
            return;
        };
        if let Poll::Ready(answer) = work.poll(&mut Context::from_waker(&place.waker))
            && let Some((asked, _)) = place.occupied.take()
        {
            self.free.push(number);
            done(asked, answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    /// Work that ends when it is told to.
    fn work() -> (Work, oneshot::Sender<()>) {
        let (end, ended) = oneshot::channel();
        let work = Work::Plain(Box::pin(async {
            ended.await.map_err(|_| DeviceError::ShuttingDown)
        }));
        (work, end)
    }

    /// Counts how often the task of the connection was woken.
    #[derive(Default)]
    struct Task(std::sync::atomic::AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    struct Bench {
        task: Arc<Task>,
        in_flight: InFlight<u32>,
    }

    impl Bench {
        fn new() -> Self {
            Bench {
                task: Arc::default(),
                in_flight: InFlight::default(),
            }
        }

        fn collect(&mut self) -> Vec<u32> {
            let waker = Waker::from(Arc::clone(&self.task));
            let mut done = Vec::new();
            let cx = Context::from_waker(&waker);
            self.in_flight.collect(&cx, |asked, _| done.push(asked));
            done
        }

        fn woken(&self) -> usize {
            self.task.0.swap(0, Ordering::SeqCst)
        }
    }

    #[test]
    fn what_ends_wakes_the_task_and_is_handed_over_once() {
        let mut bench = Bench::new();
        let (first, end_first) = work();
        let (second, end_second) = work();
        bench.in_flight.add(1, first);
        bench.in_flight.add(2, second);
        assert_eq!((bench.collect(), bench.woken()), (vec![], 0));
        end_second.send(()).expect("somebody waits");
        assert_eq!(bench.woken(), 1);
        assert_eq!((bench.collect(), bench.collect()), (vec![2], vec![]));
        assert_eq!(bench.in_flight.len(), 1);
        drop(end_first);
        assert_eq!((bench.woken(), bench.collect()), (1, vec![1]));
        assert!(bench.in_flight.is_empty());
    }

    #[test]
    fn places_are_used_again_and_late_wake_ups_harm_nobody() {
        let mut bench = Bench::new();
        for round in 0..100 {
            let (work, end) = work();
            bench.in_flight.add(round, work);
            assert!(bench.collect().is_empty());
            let late = bench.in_flight.places[0].waker.clone();
            end.send(()).expect("somebody waits");
            assert_eq!(bench.collect(), [round]);
            late.wake();
            assert!(bench.collect().is_empty());
        }
        assert_eq!(bench.in_flight.places.len(), 1);
    }

    #[test]
    fn a_thousand_ends_at_once_are_all_collected() {
        let mut bench = Bench::new();
        let mut ends = Vec::new();
        for number in 0..1000 {
            let (work, end) = work();
            bench.in_flight.add(number, work);
            ends.push(end);
        }
        assert!(bench.collect().is_empty());
        for end in ends.drain(..).step_by(2) {
            end.send(()).expect("somebody waits");
        }
        // The other halves were dropped, which is an end too, with an error.
        let mut done = bench.collect();
        done.sort_unstable();
        assert!(done.into_iter().eq(0..1000));
    }
}
