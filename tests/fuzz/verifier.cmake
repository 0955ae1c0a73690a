ub_executable(verifier_soundness SOURCES verifier_soundness.c verifier_programs.c
  LINKS ub_verifier ub_interpreter ub_map)
ub_test(fuzz/verifier_soundness COMMAND verifier_soundness -t 10)

ub_executable(verifier_differential SOURCES verifier_differential.c verifier_programs.c
  LINKS ub_verifier)
ub_test(fuzz/verifier_differential COMMAND verifier_differential -t 6 SERIAL)
