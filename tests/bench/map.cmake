ub_executable(bench_maps SOURCES maps.c LINKS test_map_sides ub_jit)
ub_test(bench/maps COMMAND bench_maps -r 1)

# From a record to a reader that slept: scripts/bench wake.
ub_executable(bench_wake SOURCES wake.c LINKS PkgConfig::LIBBPF)
ub_bpf_object(wake)
add_dependencies(bench_wake ubpf-run wake_bpf)
ub_test(bench/wake COMMAND bench_wake 20 SERIAL)

# Eight threads of a target that write to one ring buffer: scripts/bench ring.
ub_executable(bench_ring SOURCES ring.c LINKS PkgConfig::LIBBPF)
ub_bpf_object(ring)
add_dependencies(bench_ring ubpf-run ring_bpf)
ub_test(bench/ring COMMAND bench_ring 1 SERIAL)
