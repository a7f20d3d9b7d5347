# SPDX-License-Identifier: Apache-2.0
# Cross build for 64-bit ARM:
#   packaging/aarch64-sysroot /var/cache/weightfs-tests/aarch64-sysroot
#   cmake -B build-aarch64 --toolchain packaging/aarch64.cmake \
#     -DWFS_SYSROOT=/var/cache/weightfs-tests/aarch64-sysroot
# WFS_SYSROOT may stay unset where the compiler finds arm64 libraries by itself (multiarch).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES WFS_SYSROOT)

set(pkgconfig /usr/lib/aarch64-linux-gnu/pkgconfig:/usr/share/pkgconfig)
if(WFS_SYSROOT)
  set(CMAKE_SYSROOT ${WFS_SYSROOT})
  string(REPLACE /usr ${WFS_SYSROOT}/usr pkgconfig ${pkgconfig})
  set(ENV{PKG_CONFIG_SYSROOT_DIR} ${WFS_SYSROOT})
  set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L ${WFS_SYSROOT})
else()
  set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64)
endif()
set(ENV{PKG_CONFIG_LIBDIR} ${pkgconfig})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
