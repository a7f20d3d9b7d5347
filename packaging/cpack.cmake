# SPDX-License-Identifier: Apache-2.0
#
# cpack.cmake - read by cpack before it makes a package

# Without it CPack leaves the libraries out of what the package depends on, and says nothing.
if(CPACK_GENERATOR STREQUAL "DEB")
  find_program(SHLIBDEPS_EXECUTABLE dpkg-shlibdeps)
  if(NOT SHLIBDEPS_EXECUTABLE)
    message(FATAL_ERROR "dpkg-shlibdeps finds the packages of the libraries; it is missing: apt-get install dpkg-dev")
  endif()
endif()
