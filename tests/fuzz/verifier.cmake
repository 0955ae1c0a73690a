# Fixed seeds, so that what passed once passes again; by hand, without -s, each run tries new programs.
ub_executable(verifier_soundness SOURCES verifier_soundness.c verifier_programs.c
  LINKS ub_verifier ub_interpreter ub_map)
ub_test(fuzz/verifier_soundness COMMAND verifier_soundness -t 8 -s 1)

ub_executable(verifier_differential SOURCES verifier_differential.c verifier_programs.c
  LINKS ub_verifier)
ub_test(fuzz/verifier_differential COMMAND verifier_differential -t 5 -s 1 SERIAL)
