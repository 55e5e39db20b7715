use std::{collections::HashMap, net::UdpSocket, panic, sync::mpsc, thread, time::Duration};
fn main() {
    let (to, from) = mpsc::channel();
    let threads: Vec<_> = (0..8u64).map(|i| {
        let to = to.clone();
        thread::spawn(move || for k in 0..1000 { to.send(i * k).unwrap(); })
    }).collect();
    drop(to);
    let mut counts = HashMap::new();
    for n in from.iter() { *counts.entry(n % 7).or_insert(0u64) += n; }
    for t in threads { t.join().unwrap(); }
    panic::set_hook(Box::new(|_| {}));
    let caught = panic::catch_unwind(|| { let v: Vec<u8> = vec![]; v[1] }).is_err();
    let (a, b) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    b.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    a.send_to(b"datagram", b.local_addr().unwrap()).unwrap();
    let mut bytes = [0; 20];
    let n = b.recv(&mut bytes).unwrap();
    let sum: u64 = counts.values().sum();
    println!("{} {} {}", sum, caught, String::from_utf8_lossy(&bytes[..n]));
}
