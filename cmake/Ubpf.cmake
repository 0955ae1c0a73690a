# How everything here is built: one static library per folder, whose LINKS name lower floors only.

find_package(PkgConfig REQUIRED)
pkg_check_modules(LIBBPF REQUIRED IMPORTED_TARGET libbpf)
pkg_check_modules(LIBELF REQUIRED IMPORTED_TARGET libelf)
pkg_check_modules(ZLIB REQUIRED IMPORTED_TARGET zlib)
pkg_check_modules(JSONC REQUIRED IMPORTED_TARGET json-c)
find_path(ZYDIS_INCLUDE Zydis/Zydis.h REQUIRED)
find_library(ZYDIS_LIBRARY Zydis REQUIRED)
pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
find_program(CLANG NAMES clang-19 clang-14 clang REQUIRED)
find_program(BPFTOOL NAMES bpftool PATHS /usr/sbin /sbin REQUIRED)

add_library(ub_flags INTERFACE)
target_compile_options(ub_flags INTERFACE -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare
  -Wno-missing-field-initializers -Wvla -Wstrict-prototypes -fno-strict-aliasing
  -fno-omit-frame-pointer)
target_compile_definitions(ub_flags INTERFACE _GNU_SOURCE)
# <common/reason.h>, <map/map.h>, <hook/image.h> ...: the folder is part of the name.
target_include_directories(ub_flags INTERFACE ${CMAKE_SOURCE_DIR}/userspace-vm
  ${CMAKE_SOURCE_DIR}/fallback-agent ${CMAKE_BINARY_DIR}/generated)

set(UB_SANITIZE "" CACHE STRING "sanitizers: address,undefined or thread")
if(UB_SANITIZE)
  target_compile_options(ub_flags INTERFACE -fsanitize=${UB_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(ub_flags INTERFACE -fsanitize=${UB_SANITIZE})
endif()

# ub_library(NAME SOURCES ... LINKS ...)
function(ub_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC ub_flags ${ARG_LINKS})
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
endfunction()

# ub_executable(NAME SOURCES ... LINKS ...)
function(ub_executable name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ub_flags ${ARG_LINKS})
endfunction()

# ub_test(NAME COMMAND ... [SERIAL] [TIMEOUT seconds] [LABELS ...]): exit 77 = skipped, with the
# reason as "skip: ..." on its output. SERIAL: alone on the machine (uses the real kernel's uprobes
# or measures what the whole machine does).
function(ub_test name)
  cmake_parse_arguments(ARG "SERIAL" "TIMEOUT" "COMMAND;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_test(NAME ${name} COMMAND ${ARG_COMMAND} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT ${ARG_TIMEOUT}
    ENVIRONMENT "UBPF_SOURCE=${CMAKE_SOURCE_DIR};UBPF_BUILD=${CMAKE_BINARY_DIR}")
  if(ARG_SERIAL)
    set_tests_properties(${name} PROPERTIES RUN_SERIAL ON)
  endif()
  if(ARG_LABELS)
    set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}")
  endif()
endfunction()

# ub_unit_test(NAME SOURCES ... LINKS ... [SERIAL] [TIMEOUT s]): a cmocka program that is a test.
function(ub_unit_test name)
  cmake_parse_arguments(ARG "SERIAL" "TIMEOUT" "SOURCES;LINKS" ${ARGN})
  string(REPLACE "/" "_" target "test_${name}")
  ub_executable(${target} SOURCES ${ARG_SOURCES} LINKS ${ARG_LINKS} PkgConfig::CMOCKA)
  set(extra "")
  if(ARG_SERIAL)
    list(APPEND extra SERIAL)
  endif()
  if(ARG_TIMEOUT)
    list(APPEND extra TIMEOUT ${ARG_TIMEOUT})
  endif()
  ub_test(${name} COMMAND ${target} ${extra})
endfunction()

set(UB_BPF_FLAGS -g -O2 -target bpf -mcpu=v3 -D__TARGET_ARCH_x86 -Wall -I/usr/include/x86_64-linux-gnu
  -I${CMAKE_SOURCE_DIR}/bpf)

# ub_bpf_object(NAME [OUTPUT folder] [DEPENDS header...]): NAME.bpf.c compiled for BPF to NAME.bpf.o in the build folder, or
# in OUTPUT; target NAME_bpf.
function(ub_bpf_object name)
  cmake_parse_arguments(ARG "" "OUTPUT" "DEPENDS" ${ARGN})
  if(NOT ARG_OUTPUT)
    set(ARG_OUTPUT ${CMAKE_CURRENT_BINARY_DIR})
  endif()
  add_custom_command(OUTPUT ${ARG_OUTPUT}/${name}.bpf.o
    COMMAND ${CLANG} ${UB_BPF_FLAGS} -c ${CMAKE_CURRENT_SOURCE_DIR}/${name}.bpf.c -o ${ARG_OUTPUT}/${name}.bpf.o
    DEPENDS ${name}.bpf.c ${CMAKE_SOURCE_DIR}/bpf/ubpf.h ${ARG_DEPENDS}
    COMMENT "BPF program ${name}" VERBATIM)
  add_custom_target(${name}_bpf ALL DEPENDS ${ARG_OUTPUT}/${name}.bpf.o)
endfunction()
