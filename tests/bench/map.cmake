ub_executable(bench_maps SOURCES maps.c maps_producers.c LINKS test_map_sides ub_jit)
ub_test(bench/maps COMMAND bench_maps -r 1)

# From a record to a reader that slept: scripts/bench wake.
ub_executable(bench_wake SOURCES wake.c LINKS PkgConfig::LIBBPF)
ub_bpf_object(wake)
add_dependencies(bench_wake ubpf-run wake_bpf)
ub_test(bench/wake COMMAND bench_wake 20 SERIAL)
