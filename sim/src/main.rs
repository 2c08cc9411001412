//! Command line of the simulator (first cut).
fn main() {
    let args: Vec<u64> = std::env::args().skip(1).map(|a| a.parse().unwrap()).collect();
    let t = std::time::Instant::now();
    let mut bad = 0;
    for seed in args[0]..args[1] {
        match sheratan_sim::run::run_seed(seed, args[2], |_, _| ()) {
            Ok(report) => {
                if args.len() > 3 {
                    println!("{seed} {report:?}");
                }
            }
            Err(failure) => {
                let s = failure.to_string();
                println!("seed {seed} {}", s.chars().take(900).collect::<String>());
                bad += 1;
                if args.len() == 3 {
                    println!("{}", sheratan_sim::shrink::shrink(seed, &failure));
                }
                if bad > 8 {
                    break;
                }
            }
        }
    }
    println!("{:?}", t.elapsed());
}
