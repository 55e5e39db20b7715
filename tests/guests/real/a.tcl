set got {}
after 10 {set got 42}
vwait got
puts "[clock format 86400 -gmt 1 -format {%Y-%m-%d %H:%M}] $got"
