P=/work/main/.venv/bin/python
cd /tmp/w/bench_s
$P benchmarks/stress.py --threads 1 --sets heads --count 40 --name stress
$P benchmarks/stress.py --threads 1 --sets mouse --count 100 --name stress
$P benchmarks/stress.py --threads 1 --sets brains --count 60 --name stress
$P benchmarks/others.py --threads 1 --only mouse --all-pairs
$P benchmarks/stress.py --threads 1 --sets mouse --count 200 --name stress
$P benchmarks/stress.py --threads 1 --count 200 --name stress
