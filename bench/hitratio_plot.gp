# Draws what hitratio_plot.cc defines: $data (a block for each trace: size, then misses by policy),
# traces, policies, png.

panels = words(traces)
columns = 3
rows = int(ceil((panels + 1) / real(columns)))  # One more, for the key.
lines = |policies|

set terminal pngcairo size 480 * columns, 360 * rows font "sans,11" background "white"
set output png

set linetype 1 lc rgb "#7f7f7f" lw 1.6 pt 4 dt 1   # LRU
set linetype 2 lc rgb "#8c564b" lw 1.3 pt 6 dt 1   # 2Q
set linetype 3 lc rgb "#2ca02c" lw 1.3 pt 8 dt 1   # ARC
set linetype 4 lc rgb "#9467bd" lw 1.3 pt 10 dt 1  # S3-FIFO
set linetype 5 lc rgb "#17becf" lw 1.3 pt 12 dt 1  # SIEVE
set linetype 6 lc rgb "#e0a030" lw 1.3 pt 1 dt 1   # W-TinyLFU 1 %
set linetype 7 lc rgb "#bcbd22" lw 1.3 pt 2 dt 1   # W-TinyLFU 10 %
set linetype 8 lc rgb "#000000" lw 1.3 pt 0 dt 3   # BELADY
set linetype 9 lc rgb "#1f77b4" lw 2.4 pt 5 dt 2   # tiercel LRU
set linetype 10 lc rgb "#d62728" lw 3.2 pt 7 dt 1  # tiercel adaptive

set multiplot layout rows, columns
set grid ytics lt 1 lc rgb "#dddddd"
set xlabel "entries" offset 0, 0.5
set ylabel "misses, %" offset 1.5, 0
set xtics nomirror rotate by -35 font ",9"
set ytics nomirror
set border 3
unset key

do for [i = 1:panels] {
  unset logscale
  set autoscale
  stats $data index i - 1 using 1 nooutput
  set xrange [STATS_min / 1.3 : STATS_max * 1.3]
  set yrange [* : * < 100.5]
  set logscale x
  set title word(traces, i) noenhanced offset 0, -0.5
  plot for [k = 1:lines] $data index i - 1 using 1:(column(k + 1)):xtic(1) \
    with linespoints linetype k pointsize 0.9
}

# The key alone.
unset title
unset border
unset tics
unset grid
unset xlabel
unset ylabel
unset logscale
set key center center samplen 3 spacing 1.3 noenhanced
set xrange [0:1]
set yrange [0:1]
plot for [k = 1:lines] -1 with linespoints linetype k pointsize 0.9 title policies[k]
unset multiplot
