# Fixed seeds, so that what passed once passes again; by hand, without -s, each run tries new programs.
set(generator verifier_fuzz.c verifier_programs.c verifier_statements.c verifier_traps.c
  verifier_traps_numbers.c)
ub_executable(verifier_soundness SOURCES verifier_soundness.c ${generator}
  LINKS ub_verifier ub_interpreter ub_helper ub_map)
ub_test(fuzz/verifier_soundness COMMAND verifier_soundness -n 4000 -s 1)

ub_executable(verifier_differential SOURCES verifier_differential.c ${generator}
  LINKS ub_verifier)
ub_test(fuzz/verifier_differential COMMAND verifier_differential -n 300 -s 1 SERIAL)
