ub_executable(verifier_soundness SOURCES verifier_soundness.c verifier_programs.c
  LINKS ub_verifier ub_interpreter ub_map)
ub_test(fuzz/verifier_soundness COMMAND verifier_soundness -t 10)
