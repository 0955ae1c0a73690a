ub_executable(bench_maps SOURCES maps.c maps_producers.c LINKS test_map_sides ub_jit)
ub_test(bench/maps COMMAND bench_maps -r 1)
