//! The proxy, between a client and a server of the test's own.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use coordinator_tests::servers::{Direction, Mode, Proxy, shared};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::support::{LONG, Tested, connect, value};

/// Long enough for anything to pass, and short enough to wait for nothing.
const A_WHILE: Duration = Duration::from_millis(150);

/// Both ends of one connection through a proxy.
struct Line {
    proxy: Proxy,
    listener: TcpListener,
    client: TcpStream,
    server: TcpStream,
}

async fn line() -> anyhow::Result<Line> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let proxy = Proxy::to(listener.local_addr()?)?;
    let client = TcpStream::connect(proxy.address()).await?;
    let (server, _) = timeout(LONG, listener.accept()).await??;
    Ok(Line {
        proxy,
        listener,
        client,
        server,
    })
}

/// What comes next.
async fn read(stream: &mut TcpStream, count: usize) -> anyhow::Result<String> {
    let mut bytes = vec![0; count];
    timeout(LONG, stream.read_exact(&mut bytes)).await??;
    Ok(String::from_utf8(bytes)?)
}

/// Whether nothing comes for a while, not even an end.
async fn is_silent(stream: &mut TcpStream) -> bool {
    timeout(A_WHILE, stream.read_u8()).await.is_err()
}

/// How it ends: with 0 bytes, or with an error.
async fn end(stream: &mut TcpStream) -> Result<usize, ErrorKind> {
    let mut bytes = [0; 1024];
    loop {
        match timeout(LONG, stream.read(&mut bytes)).await {
            Ok(Ok(0)) => return Ok(0),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error.kind()),
            Err(_) => return Err(ErrorKind::TimedOut),
        }
    }
}

#[tokio::test]
async fn bytes_pass_both_ways_and_are_counted_and_an_end_passes_alone() -> Tested {
    let mut line = line().await?;
    line.client.write_all(b"question").await?;
    assert_eq!(read(&mut line.server, 8).await?, "question");
    line.client.shutdown().await?;
    assert_eq!(end(&mut line.server).await, Ok(0));
    line.server.write_all(b"answer").await?;
    assert_eq!(read(&mut line.client, 6).await?, "answer");
    assert_eq!(line.proxy.passed(Direction::ToServer), 8);
    assert_eq!(line.proxy.passed(Direction::Both), 14);
    drop(line.server);
    assert_eq!(end(&mut line.client).await, Ok(0));
    Ok(())
}

#[tokio::test]
async fn one_way_is_held_and_the_other_is_not() -> Tested {
    let mut line = line().await?;
    line.proxy.set(Direction::ToClient, Mode::Hold);
    line.client.write_all(b"a").await?;
    assert_eq!(read(&mut line.server, 1).await?, "a");
    line.server.write_all(b"b").await?;
    assert!(is_silent(&mut line.client).await);
    line.proxy.set(Direction::ToClient, Mode::Pass);
    assert_eq!(read(&mut line.client, 1).await?, "b");
    Ok(())
}

#[tokio::test]
async fn who_is_held_does_not_learn_that_the_other_is_gone() -> Tested {
    let mut line = line().await?;
    line.proxy.set(Direction::ToClient, Mode::Hold);
    drop(line.server);
    line.client.write_all(b"anybody there").await?;
    assert!(is_silent(&mut line.client).await);
    line.client.write_all(b"again").await?;
    assert!(is_silent(&mut line.client).await);
    line.proxy.set(Direction::ToClient, Mode::Pass);
    assert!(
        end(&mut line.client).await.is_ok_and(|read| read == 0) || line.proxy.connections() == 0
    );
    Ok(())
}

#[tokio::test]
async fn what_is_lost_never_comes() -> Tested {
    let mut line = line().await?;
    line.proxy.set(Direction::ToServer, Mode::Lose);
    line.client.write_all(b"lost").await?;
    assert!(is_silent(&mut line.server).await);
    line.proxy.set(Direction::ToServer, Mode::Pass);
    line.client.write_all(b"kept").await?;
    assert_eq!(read(&mut line.server, 4).await?, "kept");
    Ok(())
}

#[tokio::test]
async fn delays_do_not_add_up() -> Tested {
    const DELAY: Duration = Duration::from_millis(300);
    let mut line = line().await?;
    line.proxy.set(Direction::ToServer, Mode::Delay(DELAY));
    let began = Instant::now();
    for _ in 0..10 {
        line.client.write_all(b"x").await?;
        tokio::task::yield_now().await;
    }
    assert_eq!(read(&mut line.server, 10).await?, "x".repeat(10));
    let took = began.elapsed();
    assert!(took >= DELAY && took < DELAY * 10, "{took:?}");
    Ok(())
}

#[tokio::test]
async fn a_throttled_way_carries_no_more_than_its_rate() -> Tested {
    let mut line = line().await?;
    line.proxy.set(Direction::ToServer, Mode::Throttle(10_000));
    let began = Instant::now();
    line.client.write_all(&[b'x'; 3_000]).await?;
    read(&mut line.server, 3_000).await?;
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(290), "{took:?}");
    Ok(())
}

#[tokio::test]
async fn a_cut_comes_after_so_many_bytes() -> Tested {
    let mut line = line().await?;
    line.proxy.set(Direction::ToServer, Mode::CutAfter(3));
    line.client.write_all(b"12345").await?;
    assert_eq!(end(&mut line.client).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(line.proxy.passed(Direction::ToServer), 3);
    Ok(())
}

#[tokio::test]
async fn a_closed_connection_ends_in_order_and_a_reset_one_does_not() -> Tested {
    let mut closed = line().await?;
    closed.proxy.close_all().await;
    assert_eq!(end(&mut closed.client).await, Ok(0));
    assert_eq!(end(&mut closed.server).await, Ok(0));

    let mut reset = line().await?;
    reset.proxy.reset_all().await;
    assert_eq!(
        end(&mut reset.client).await,
        Err(ErrorKind::ConnectionReset)
    );
    assert_eq!(
        end(&mut reset.server).await,
        Err(ErrorKind::ConnectionReset)
    );
    Ok(())
}

#[tokio::test]
async fn one_side_is_closed_and_the_other_hears_nothing() -> Tested {
    let mut line = line().await?;
    line.proxy.close_server_side().await;
    assert_eq!(end(&mut line.server).await, Ok(0));
    assert!(is_silent(&mut line.client).await);
    line.client.write_all(b"anybody there").await?;
    assert!(is_silent(&mut line.client).await);
    line.proxy.close_all().await;
    assert!(end(&mut line.client).await.is_ok_and(|read| read == 0));
    Ok(())
}

#[tokio::test]
async fn who_is_refused_is_refused_at_once_and_others_stay() -> Tested {
    let mut line = line().await?;
    line.proxy.refuse().await?;
    let refused = TcpStream::connect(line.proxy.address()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    line.client.write_all(b"a").await?;
    assert_eq!(read(&mut line.server, 1).await?, "a");
    line.proxy.accept().await?;
    TcpStream::connect(line.proxy.address()).await?;
    timeout(LONG, line.listener.accept()).await??;
    Ok(())
}

#[tokio::test]
async fn who_comes_while_all_is_held_is_let_through_afterwards_or_cut_off() -> Tested {
    let line = line().await?;
    line.proxy.set(Direction::Both, Mode::Hold);
    let mut client = TcpStream::connect(line.proxy.address()).await?;
    client.write_all(b"a").await?;
    assert!(timeout(A_WHILE, line.listener.accept()).await.is_err());
    line.proxy.set(Direction::Both, Mode::Pass);
    let (mut server, _) = timeout(LONG, line.listener.accept()).await??;
    assert_eq!(read(&mut server, 1).await?, "a");

    line.proxy.set(Direction::Both, Mode::Hold);
    let mut other = TcpStream::connect(line.proxy.address()).await?;
    // The third is there when the proxy has taken it.
    while line.proxy.connections() < 3 {
        tokio::task::yield_now().await;
    }
    timeout(LONG, line.proxy.close_all()).await?;
    assert_eq!(end(&mut other).await, Ok(0));
    Ok(())
}

#[tokio::test]
async fn where_no_server_is_a_client_is_cut_off_and_a_proxy_that_goes_takes_all_with_it() -> Tested
{
    let line = line().await?;
    let Line {
        proxy,
        listener,
        mut client,
        mut server,
    } = line;
    drop(listener);
    let mut other = TcpStream::connect(proxy.address()).await?;
    assert_eq!(end(&mut other).await, Err(ErrorKind::ConnectionReset));
    drop(proxy);
    assert_eq!(end(&mut client).await, Ok(0));
    assert_eq!(end(&mut server).await, Ok(0));
    Ok(())
}

#[tokio::test]
async fn a_server_is_reached_through_a_proxy_by_its_url() -> Tested {
    let Some(url) = shared() else { return Ok(()) };
    let proxy = Proxy::before(&url).await?;
    let client = connect(&proxy.url(&url)).await?;
    assert_eq!(value(&client, "SELECT 1").await?, "1");
    proxy.reset_all().await;
    assert!(client.batch_execute("SELECT 1").await.is_err());
    Ok(())
}
