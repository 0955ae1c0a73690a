ub_executable(fuzz_map_operations SOURCES map_operations.c LINKS test_map_sides PkgConfig::LIBBPF)
ub_test(fuzz/map_operations COMMAND fuzz_map_operations)

ub_executable(fuzz_map_hostile SOURCES map_hostile.c LINKS test_map_sides)
ub_test(fuzz/map_hostile COMMAND fuzz_map_hostile)
