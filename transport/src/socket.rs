//! The UDP socket below QUIC: large buffers, and no more segments per call than the kernel takes.
//!
//! A call hands up to ten datagrams to the kernel. With large datagrams that passes the 64 KiB one call may carry;
//! the kernel refuses, nobody is told, and the path is taken for one that swallows large datagrams. So the number is
//! limited by the largest datagram.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};
use socket2::{Domain, Protocol, Socket, Type};

/// Most bytes one call may carry, with room for headers.
const CALL_BYTES_MAX: usize = 65_000;

/// What is asked of the system for each direction; `net.core.rmem_max` and `wmem_max` may grant less.
pub const BUFFER_BYTES: usize = 8 << 20;

/// Binds the socket.
///
/// # Errors
/// What the system says, above all: the address is in use.
pub fn bind(listen: SocketAddr, mtu_max: u16) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    let socket = Socket::new(
        Domain::for_address(listen),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if listen.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Less than asked for is not an error: the line is then slower at most.
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    socket.bind(&listen.into())?;
    let granted = (socket.recv_buffer_size()?, socket.send_buffer_size()?);
    tracing::debug!(receive = granted.0, send = granted.1, "socket buffers");
    let inner = TokioRuntime.wrap_udp_socket(socket.into())?;
    let segments_max = (CALL_BYTES_MAX / usize::from(mtu_max.max(1))).max(1);
    Ok(Arc::new(Limited {
        inner,
        segments_max,
    }))
}

struct Limited {
    inner: Arc<dyn AsyncUdpSocket>,
    segments_max: usize,
}

impl fmt::Debug for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl AsyncUdpSocket for Limited {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments().min(self.segments_max)
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}
