//! x
mod kernel;
fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_env_filter("debug").with_writer(std::io::stderr).init();
    let t = std::time::Instant::now();
    let p = kernel::programs::start(1024)?;
    eprintln!("{:?}", t.elapsed());
    for h in &p.hooks { println!("{h:?}"); }
    std::thread::sleep(std::time::Duration::from_secs(3));
    println!("{:?}", p.stats.read(0));
    for i in 0..p.owners.len() { let o = p.owners.read(i).unwrap(); if o.state != 0 { println!("{i} {:?} {}", o.key, String::from_utf8_lossy(&o.comm)); } }
    for i in 0..p.rows.len() { let o = p.rows.read(i).unwrap(); if o.state != 0 { println!("{i} {:?}", o); } }
    Ok(())
}
