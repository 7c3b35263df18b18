//! The figure and the account of a whole life, against what was once looked at and found good.
mod runs;

#[test]
fn show() {
    let options = runs::options();
    let records = runs::closing_life(3);
    std::fs::write("/tmp/fig.svg", figure::draw(&records, &options)).unwrap();
    std::fs::write("/tmp/fig2.svg", figure::draw(&runs::closing_life(1000), &options)).unwrap();
    println!("{}", figure::text(&records, &options));
    println!("{}", figure::text(&runs::closing_life(1000), &figure::Options { width: 80, ..options.clone() }));
    let mut n = figure::Narrator::new(runs::names());
    for r in runs::closing_life(1000) {
        for l in n.account(&r) {
            println!("{l}");
        }
    }
    for l in n.end() {
        println!("{l}");
    }
}
